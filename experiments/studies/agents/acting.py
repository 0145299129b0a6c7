"""Actors: a policy acts in several environments side by side."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.studies.agents.environments import Environment

Policy = Callable[[jax.Array], jax.Array]
"""Maps observations, ``[actors, features]``, to logits, ``[actors, actions]``."""


class Actors(NamedTuple):
    """Where the actors are; all ``[actors, ...]``.

    Attributes:
        state: of the environments.
        observation: what is seen there.
        so_far: what the running episode has returned.
        latest: what the latest complete episode returned.
    """

    state: Any
    observation: jax.Array
    so_far: jax.Array
    latest: jax.Array


class Seen(NamedTuple):
    """What the actors did and saw; all ``[steps, actors, ...]``.

    Attributes:
        observation: before an action.
        action: the action.
        log_probability: of the action.
        reward: of the action.
        final: what was observed right after it, before any new episode.
        terminated: whether the episode came to its end.
        truncated: whether it was cut off by the time limit.
        latest: what each actor's latest complete episode returned.
    """

    observation: jax.Array
    action: jax.Array
    log_probability: jax.Array
    reward: jax.Array
    final: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    latest: jax.Array


def begin(environment: Environment, key: jax.Array, actors: int, lowest: float) -> Actors:
    """Returns actors at the start of their first episodes; ``lowest`` counts until one ends."""
    state, observation = jax.vmap(environment.reset)(jax.random.split(key, actors))
    return Actors(state, observation, jnp.zeros(actors), jnp.full(actors, lowest))


def act(
    environment: Environment, policy: Policy, actors: Actors, key: jax.Array, steps: int
) -> tuple[Actors, Seen]:
    """Lets actors take so many steps; actions are drawn from the policy."""

    def step(actors: Actors, key: jax.Array) -> tuple[Actors, Seen]:
        action_key, *step_keys = jax.random.split(key, 1 + len(actors.so_far))
        logits = policy(actors.observation)
        action = jax.random.categorical(action_key, logits)
        log_policy = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(log_policy, action[:, None], axis=1)[:, 0]
        out = jax.vmap(environment.step)(jnp.stack(step_keys), actors.state, action)
        ended = out.terminated | out.truncated
        returned = actors.so_far + out.reward
        latest = jnp.where(ended, returned, actors.latest)
        moved = Actors(out.state, out.observation, jnp.where(ended, 0.0, returned), latest)
        return moved, Seen(
            observation=actors.observation,
            action=action,
            log_probability=chosen,
            reward=out.reward,
            final=out.final,
            terminated=out.terminated,
            truncated=out.truncated,
            latest=latest,
        )

    return jax.lax.scan(step, actors, jax.random.split(key, steps))
