"""What Optax lacks: the gradient transformations of AdaM3 and AdaBound, and their optimizers.

Written like Optax's own; nothing here knows of prediction.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._typing import OptState, Params, Updates

__all__ = [
    "ScaleByAdaBoundState",
    "ScaleByAdaM3State",
    "adabound",
    "adam3",
    "scale_by_adabound",
    "scale_by_adam3",
]


class ScaleByAdaM3State(NamedTuple):
    """State of :func:`scale_by_adam3`.

    Attributes:
      count: number of updates, shape ``()``, int32.
      mu: first moment m_t, like the parameters.
      nu: second moment v_t of the *first moment*, like the parameters.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (tuple.count)
    mu: Updates
    nu: Updates


def scale_by_adam3(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-16,
) -> optax.GradientTransformation:
    r"""Rescales updates by the second moment of their momentum (AdaM³, also called AdaMomentum).

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) m_t^2 + \varepsilon \\
        u_t &= \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)}}

    There is no :math:`\varepsilon` outside the root. Where :math:`v_t` is exactly zero (possible
    only if :math:`\varepsilon` underflows, as in float16) the update is zero.

    Args:
      b1: decay rate :math:`\beta_1` of the first moment.
      b2: decay rate :math:`\beta_2` of the second moment.
      eps: :math:`\varepsilon`, added to the second moment at each step.

    Returns:
      A :class:`optax.GradientTransformation`.

    Examples:
      >>> import jax.numpy as jnp
      >>> tx = scale_by_adam3()
      >>> updates, state = tx.update(jnp.array([3.0, -5.0]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 3) for u in updates]  # m̂₁ = g and √v̂₁ = (1 - β₁)|g|
      [10.0, -10.0]

    References:
      Wang et al., `Momentum Doesn't Change The Optimizer
      <https://arxiv.org/abs/2106.11514>`_, 2021, algorithm 1.
    """

    def init_fn(params: Params) -> OptState:
        return ScaleByAdaM3State(
            count=jnp.zeros([], jnp.int32),
            mu=optax.tree.zeros_like(params),
            nu=optax.tree.zeros_like(params),
        )

    def update_fn(
        updates: Updates, state: OptState, params: Params | None = None
    ) -> tuple[Updates, OptState]:
        del params
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(mu, state.nu, b2, 2)
        nu = jax.tree.map(lambda v: v + eps, nu)
        count = jnp.asarray(optax.safe_increment(state.count))
        mu_hat = optax.tree.bias_correction(mu, b1, count)
        nu_hat = optax.tree.bias_correction(nu, b2, count)
        directions = jax.tree.map(adam3_ratio, mu_hat, nu_hat)
        state = ScaleByAdaM3State(
            count, optax.tree.cast_like(mu, state.mu), optax.tree.cast_like(nu, state.nu)
        )
        return directions, state

    return optax.GradientTransformation(init_fn, update_fn)


def adam3_ratio(mu_hat: jax.Array, nu_hat: jax.Array) -> jax.Array:
    """m̂ / √v̂, and 0 where v̂ is 0."""
    empty = nu_hat == 0
    return jnp.where(empty, 0, mu_hat / jnp.sqrt(jnp.where(empty, 1, nu_hat)))


def adam3(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-16,
) -> optax.GradientTransformationExtraArgs:
    """The AdaM³ (AdaMomentum) optimizer, without prediction.

    Args:
      learning_rate: a fixed step size or a schedule.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added to the second moment at each step.

    Returns:
      The corresponding :class:`optax.GradientTransformationExtraArgs`.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> tx = adam3(0.1)
      >>> params = jnp.array([1.0, 2.0])
      >>> state = tx.init(params)
      >>> for _ in range(300):
      ...     updates, state = tx.update(jax.grad(lambda x: jnp.sum(x**2))(params), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> bool(jnp.abs(params).max() < 0.1)
      True

    .. seealso:: :func:`xgrad_optax.adam3` for the predicted version.
    """
    return optax.chain(
        scale_by_adam3(b1=b1, b2=b2, eps=eps), optax.scale_by_learning_rate(learning_rate)
    )


class ScaleByAdaBoundState(NamedTuple):
    """State of :func:`scale_by_adabound`.

    Attributes:
      count: number of updates, shape ``()``, int32.
      mu: first moment m_t, like the parameters.
      nu: second moment v_t, like the parameters.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (tuple.count)
    mu: Updates
    nu: Updates


def scale_by_adabound(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    final_scale: jax.typing.ArrayLike = 100.0,
    gamma: jax.typing.ArrayLike = 1e-3,
) -> optax.GradientTransformation:
    r"""Rescales updates as Adam does, within bounds that close in on SGD's constant step size.

    .. math::
        m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad
        v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2 \\
        \eta_t &= \mathrm{clip}\left(
            \frac{\sqrt{1 - \beta_2^t}}{(1 - \beta_1^t)(\sqrt{v_t} + \varepsilon)},\;
            c\left(1 - \tfrac{1}{\gamma t + 1}\right),\;
            c\left(1 + \tfrac{1}{\gamma t}\right)\right) \\
        u_t &= \eta_t \odot m_t

    The step sizes are relative to the learning rate that follows in the chain, so a schedule scales
    the bounds too, as the authors' code does.

    Args:
      b1: decay rate :math:`\beta_1` of the first moment.
      b2: decay rate :math:`\beta_2` of the second moment.
      eps: :math:`\varepsilon`, added to the root of the second moment.
      final_scale: :math:`c`, the step size that the bounds converge to, as a multiple of the
        learning rate. The authors' ``lr=1e-3, final_lr=0.1`` is 100.
      gamma: :math:`\gamma`, how fast the bounds converge.

    Returns:
      A :class:`optax.GradientTransformation`.

    Examples:
      >>> import jax.numpy as jnp
      >>> tx = scale_by_adabound(final_scale=2.0, gamma=1.0)
      >>> updates, state = tx.update(jnp.array([100.0, -1e-3]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 6) for u in updates]  # clipped to [1, 4] times m₁ = 0.1 g
      [10.0, -0.0004]

    References:
      Luo et al., `Adaptive Gradient Methods with Dynamic Bound of Learning Rate
      <https://arxiv.org/abs/1902.09843>`_, 2019, algorithm 2 (with Adam's bias correction, as in
      the authors' code).
    """

    def init_fn(params: Params) -> OptState:
        return ScaleByAdaBoundState(
            count=jnp.zeros([], jnp.int32),
            mu=optax.tree.zeros_like(params),
            nu=optax.tree.zeros_like(params),
        )

    def update_fn(
        updates: Updates, state: OptState, params: Params | None = None
    ) -> tuple[Updates, OptState]:
        del params
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(updates, state.nu, b2, 2)
        count = jnp.asarray(optax.safe_increment(state.count))
        directions = adabound_direction(
            mu, nu, count, b1=b1, b2=b2, eps=eps, final_scale=final_scale, gamma=gamma
        )
        state = ScaleByAdaBoundState(
            count, optax.tree.cast_like(mu, state.mu), optax.tree.cast_like(nu, state.nu)
        )
        return directions, state

    return optax.GradientTransformation(init_fn, update_fn)


def adabound_direction(
    mu: Updates,
    nu: Updates,
    count: jax.Array,
    *,
    b1: Any,
    b2: Any,
    eps: Any,
    final_scale: Any,
    gamma: Any,
) -> Updates:
    """η_t ⊙ m_t of :func:`scale_by_adabound`; ``count`` is t >= 1."""
    t = count.astype(jnp.result_type(float))
    b1, b2, eps, final_scale, gamma = (
        jnp.asarray(h, t.dtype) for h in (b1, b2, eps, final_scale, gamma)
    )
    correction = jnp.sqrt(1.0 - b2**t) / (1.0 - b1**t)
    lower = final_scale * (1.0 - 1.0 / (gamma * t + 1.0))
    upper = final_scale * (1.0 + 1.0 / (gamma * t))

    def direction(m: jax.Array, v: jax.Array) -> jax.Array:
        # Bounds on complex numbers make no sense; the second moment is real in any case.
        root = jnp.sqrt(jnp.real(v)).astype(t.dtype)
        step_size = jnp.clip(correction / (root + eps), lower, upper)
        return step_size.astype(m.dtype) * m

    return jax.tree.map(direction, mu, nu)


def adabound(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    final_scale: jax.typing.ArrayLike = 100.0,
    gamma: jax.typing.ArrayLike = 1e-3,
) -> optax.GradientTransformationExtraArgs:
    """The AdaBound optimizer, without prediction.

    Args:
      learning_rate: a fixed step size or a schedule.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added to the root of the second moment.
      final_scale: the final step size as a multiple of the learning rate; the authors'
        ``lr=1e-3, final_lr=0.1`` is 100.
      gamma: how fast the bounds on the step size converge.

    Returns:
      The corresponding :class:`optax.GradientTransformationExtraArgs`.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> tx = adabound(1e-3)
      >>> params = jnp.array([1.0, 2.0])
      >>> state = tx.init(params)
      >>> for _ in range(300):
      ...     updates, state = tx.update(jax.grad(lambda x: jnp.sum(x**2))(params), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> bool(jnp.abs(params).max() < 0.1)
      True

    .. seealso:: :func:`xgrad_optax.adabound` for the predicted version.
    """
    return optax.chain(
        scale_by_adabound(b1=b1, b2=b2, eps=eps, final_scale=final_scale, gamma=gamma),
        optax.scale_by_learning_rate(learning_rate),
    )
