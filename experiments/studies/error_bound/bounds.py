"""What the bounds ask for, measured, and the bounds; a row of an array is a step of training."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

import xgrad_optax
from xgrad_optax.diagnostics import adam_error_bound, sgdm_error_bound

_B1, _B2, _EPS = 0.9, 0.999, 1e-8  # Optax's defaults


class Measured(NamedTuple):
    """What is known at a step, and what the bound assumes of the steps to come.

    Attributes:
        known: arguments of the bound, by name.
        point_distance: ‖x_{t+1} - x_t‖.
        smoothness: L, of the places visited up to each number of steps, ``[..., steps ahead]``.
        noise: σ, likewise.
        largest_noise: σ_∞, likewise.
    """

    known: dict[str, Any]
    point_distance: Any
    smoothness: Any
    noise: Any
    largest_noise: Any


@dataclasses.dataclass(frozen=True)
class Rule:
    """An optimizer θ_t = θ_{t-1} - γ u_t and the bound of its predictions.

    Attributes:
        make: ``s -> WeightPrediction``.
        update: ``state -> u_t``.
        scale: ``state -> D_t``.
        most: ``state -> C``, the most that an entry over the scale counts for.
        known: ``(state, g_t) -> arguments of the bound``.
        bound: ``(horizon, s, known, further arguments) -> bound``.
    """

    make: Callable[[Any], xgrad_optax.WeightPrediction]
    update: Callable[[Any], Any]
    scale: Callable[[Any], Any]
    most: Callable[[Any], Any]
    known: Callable[[Any, Any], dict[str, Any]]
    bound: Callable[..., Any]


def sgdm(learning_rate: float, momentum: float) -> Rule:
    """SGD with momentum: u is the velocity and the scale 1."""

    def velocity(state: Any) -> Any:
        return optax.tree.get(state, "trace")

    def known(state: Any, gradient: Any) -> dict[str, Any]:
        v = velocity(state)
        gap = jnp.linalg.norm(gradient - (1 - momentum) * v)
        return {"velocity_norm": jnp.linalg.norm(v), "gradient_gap": gap}

    def bound(horizon: int, *, largest_noise: Any, **arguments: Any) -> Any:
        del largest_noise  # it matters to Adam's scale alone
        return sgdm_error_bound(horizon, learning_rate, momentum, **arguments)

    return Rule(
        make=lambda s: xgrad_optax.sgdm(learning_rate, s=s, momentum=momentum),
        update=velocity,
        scale=lambda state: jnp.ones_like(velocity(state)),
        most=lambda state: jnp.inf,
        known=known,
        bound=bound,
    )


class _Moments(NamedTuple):
    m: Any
    root: Any

    @property
    def scale(self) -> Any:
        return self.root + _EPS

    @classmethod
    def of(cls, state: Any) -> "_Moments":
        """m̂_t and √v̂_t."""
        t, m, v = (optax.tree.get(state, name) for name in ("count", "mu", "nu"))
        return cls(m / (1 - _B1**t), jnp.sqrt(v / (1 - _B2**t)))


def adam(learning_rate: float) -> Rule:
    """Adam with Optax's defaults."""

    def known(state: Any, gradient: Any) -> dict[str, Any]:
        moments = _Moments.of(state)
        m, root, scale = *moments, moments.scale
        u = m / scale

        def over_root(x: Any) -> Any:
            return jnp.where(root > 0, x / jnp.where(root > 0, root, 1), 0)

        return {
            "count": optax.tree.get(state, "count"),
            "update_norm": jnp.linalg.norm(u),
            "gradient_gap": jnp.linalg.norm((gradient - m) / scale),
            "scale_gap": jnp.linalg.norm(u / scale * over_root(gradient**2 - root**2)),
            "largest_update": jnp.abs(over_root(m)).max(),
            "largest_gradient": jnp.abs(gradient / scale).max(),
        }

    def bound(horizon: int, **arguments: Any) -> Any:
        return adam_error_bound(horizon, learning_rate, _B1, _B2, **arguments)

    return Rule(
        make=lambda s: xgrad_optax.adam(learning_rate, s=s),
        update=lambda state: _Moments.of(state).m / _Moments.of(state).scale,
        scale=lambda state: _Moments.of(state).scale,
        most=lambda state: jnp.sqrt(2 * (1 - _B2 ** optax.tree.get(state, "count")) / (1 - _B2)),
        known=known,
        bound=bound,
    )


def bounds(rule: Rule, measured: Measured, s: float, horizons: Any, smoothness: Any) -> np.ndarray:
    """The bound with an L for each step, ``[steps, horizons]``."""
    return _by_horizon(
        rule, measured, s, horizons, lambda h: {"smoothness": smoothness, **_noise(measured, h)}
    )


def visited_bounds(rule: Rule, measured: Measured, s: float, horizons: Any) -> np.ndarray:
    """The bound with the least L that the places visited allow, likewise."""
    return _by_horizon(
        rule,
        measured,
        s,
        horizons,
        lambda h: {"smoothness": measured.smoothness[..., h - 1], **_noise(measured, h)},
    )


def parts(rule: Rule, measured: Measured, s: float, horizons: Any) -> dict[str, np.ndarray]:
    """What each part adds to :func:`visited_bounds`, let in one after the other."""
    silent = {"noise": 0.0, "largest_noise": 0.0}
    no_gap = measured._replace(known=measured.known | {"gradient_gap": 0.0})
    up_to = {
        "scale": _by_horizon(rule, no_gap, s, horizons, lambda _: {"smoothness": 0.0, **silent}),
        "gap": _by_horizon(rule, measured, s, horizons, lambda _: {"smoothness": 0.0, **silent}),
        "noise": bounds(rule, measured, s, horizons, 0.0),
        "smoothness": visited_bounds(rule, measured, s, horizons),
    }
    totals = [np.zeros_like(up_to["scale"]), *up_to.values()]
    return dict(zip(up_to, np.diff(totals, axis=0), strict=True))


def _noise(measured: Measured, horizon: int) -> dict[str, Any]:
    return {name: getattr(measured, name)[..., horizon - 1] for name in ("noise", "largest_noise")}


def _by_horizon(rule: Rule, measured: Measured, s: float, horizons: Any, more: Any) -> np.ndarray:
    fixed = measured.known | {"s": s, "point_distance": measured.point_distance}
    return np.stack([np.asarray(rule.bound(h, **fixed, **more(h))) for h in horizons], axis=-1)
