"""Environments of gymnax, one actor at a time; what its step says is given names here."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Outcome(NamedTuple):
    """What one action led to.

    Attributes:
        state: where the next action is taken: at the start of a new episode if this one ended.
        observation: of that state.
        reward: of the action, a scalar.
        final: what was observed right after the action, before any new episode.
        terminated: whether the episode came to its end, where nothing more is to be had.
        truncated: whether it was cut off by the time limit, where more would have been.
    """

    state: Any
    observation: jax.Array
    reward: jax.Array
    final: jax.Array
    terminated: jax.Array
    truncated: jax.Array


class Environment(NamedTuple):
    """An environment with discrete actions.

    Attributes:
        reset: ``key -> (state, observation)``.
        step: ``(key, state, action) -> Outcome``; begins a new episode by itself.
        actions: number of actions.
    """

    reset: Callable[[jax.Array], tuple[Any, jax.Array]]
    step: Callable[[jax.Array, Any, jax.Array], Outcome]
    actions: int


def load_environment(name: str) -> Environment:
    """Returns an environment by its name in gymnax."""
    import gymnax

    environment, params = gymnax.make(name)

    def reset(key: jax.Array) -> tuple[Any, jax.Array]:
        observation, state = environment.reset(key, params)
        return state, observation.ravel()

    def step(key: jax.Array, state: Any, action: jax.Array) -> Outcome:
        observation, state, reward, terminated, truncated, info = environment.step(
            key, state, action, params
        )
        final = info["final_observation"].ravel()
        return Outcome(state, observation.ravel(), reward, final, terminated, truncated)

    return Environment(reset, step, environment.num_actions)
