"""Training that looks back: at some of its steps, what was predicted and what was known."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.studies.error_bound.bounds import Measured, Rule

Gradient = Callable[[Any, Any], Any]


class Now(NamedTuple):
    """Training after t updates.

    Attributes:
        params: θ_t, a vector.
        state: the optimizer's.
        point: x_t, where the last gradient was taken.
        gradient: g_t.
    """

    params: Any
    state: Any
    point: Any
    gradient: Any


class Found(NamedTuple):
    """What is found at a step t, arrays over the steps ahead 1, 2, ...

    Attributes:
        error: ‖θ̂_{t+k} - θ_{t+k}‖.
        moved: ‖θ_{t+k} - θ_t‖.
        measured: what the bound asks for.
        params: θ_t.
        scale: D_t.
    """

    error: Any
    moved: Any
    measured: Measured
    params: Any
    scale: Any


def train(
    rule: Rule,
    learning_rate: float,
    gradient: Gradient,
    full_gradient: Callable[[Any], Any] | None,
    params: Any,
    s: Any,
    batches: tuple[Any, Any],
    ahead: int,
) -> tuple[Any, Found]:
    """Trains, and judges predictions at the first step and at the first of each round after it.

    Args:
        rule: the optimizer.
        learning_rate: γ.
        gradient: ``(params, batch) -> gradient``.
        full_gradient: the same on all examples; None if a batch is all examples.
        params: where training starts.
        s: the horizon that training itself uses.
        batches: that of the first step, and those of all rounds ``[rounds, steps, ...]``.
        ahead: how many steps ahead predictions are judged, at most as many as a round has.

    Returns:
        The parameters at the end, and what was found, over the rounds.
    """
    lookahead_params, tx = rule.make(s)

    def step(now: Now, batch: Any) -> tuple[Now, Now]:
        point = lookahead_params(now.params, now.state)
        g = gradient(point, batch)
        updates, state = tx.update(g, now.state, now.params)
        after = Now(now.params + updates, state, point, g)
        return after, after._replace(state=None)

    def round_of(now: Now, batches: Any) -> tuple[Now, Found]:
        after, rows = jax.lax.scan(step, now, batches)
        seen = jax.tree.map(
            lambda first, rest: jnp.concatenate([first[None], rest[:ahead]]),
            now._replace(state=None),
            rows,
        )
        full = seen.gradient if full_gradient is None else jax.lax.map(full_gradient, seen.point)
        return after, look_back(rule, learning_rate, now.state, seen, full)

    first, rounds = batches
    now, _ = step(Now(params, tx.init(params), params, jnp.zeros_like(params)), first)
    after, found = jax.lax.scan(round_of, now, rounds)
    return after.params, found


def look_back(rule: Rule, learning_rate: float, state: Any, seen: Now, full: Any) -> Found:
    """Judges the predictions of a step by those that followed.

    Args:
        rule: the optimizer.
        learning_rate: γ.
        state: of the optimizer, after t updates.
        seen: row k after t + k updates.
        full: the gradients of all examples at the points.
    """
    k = jnp.arange(1, len(seen.params))[:, None]
    moved = seen.params[1:] - seen.params[0]
    predicted = -k.astype(moved.dtype) * learning_rate * rule.update(state)
    scale, most = rule.scale(state), rule.most(state)
    misses = jnp.minimum(jnp.abs(seen.gradient - full) / scale, most)
    distance = _norm(seen.point[1:] - seen.point[0])
    change = _norm(jnp.minimum(jnp.abs(full[1:] - full[0]) / scale, most))
    secant = jnp.where(distance > 0, change / jnp.where(distance > 0, distance, 1), 0)
    measured = Measured(
        known=rule.known(state, seen.gradient[0]),
        point_distance=distance[0],
        smoothness=jax.lax.cummax(secant),
        noise=jax.lax.cummax(_norm(misses))[1:],
        largest_noise=jax.lax.cummax(misses.max(axis=-1))[1:],
    )
    return Found(_norm(predicted - moved), _norm(moved), measured, seen.params[0], scale)


def _norm(rows: Any) -> Any:
    return jnp.linalg.norm(rows, axis=-1)
