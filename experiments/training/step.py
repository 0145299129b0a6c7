"""The one train step, whatever is trained and however its gradient becomes an update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.arms import Method
from experiments.task import Batch, Gradient, GradientOf, Task, Variables


class Progress(NamedTuple):
    """All that a step hands to the next.

    Attributes:
        params: the parameters.
        opt_state: the optimizer's state.
        state: the model's state.
        steps: number of steps done, int32.
    """

    params: Any
    opt_state: Any
    state: Any
    steps: Any


def step(
    method: Method, gradient: GradientOf, params: Any, opt_state: Any, **extra: Any
) -> tuple[Gradient, Any, Any]:
    """Takes one step: Algorithm 1, of which the plain optimizer is the case without prediction.

    Args:
        method: says where the gradient is taken, and what becomes of it.
        gradient: maps parameters to the batch's gradient there.
        params: the true parameters.
        opt_state: the optimizer's state.
        **extra: what the transform is given beside the gradient.

    Returns:
        What the backward pass gave, the new parameters and the new state.
    """
    found = method.around(gradient)(method.point(params, opt_state))
    update = optax.with_extra_args_support(method.transform).update
    updates, opt_state = update(found.params, opt_state, params, **extra)
    return found, optax.apply_updates(params, updates), opt_state


def make_step(
    task: Task, method: Method
) -> Callable[[Progress, Batch, jax.Array], tuple[Progress, jax.Array]]:
    """Returns ``(progress, batch, key) -> (progress, loss)`` of a task."""

    def train_step(progress: Progress, batch: Batch, key: jax.Array) -> Any:
        def gradient(params: Any) -> Gradient:
            return task.gradient(params, progress.state, batch, key)

        found, params, opt_state = step(method, gradient, progress.params, progress.opt_state)
        if task.project:
            params = task.project(params)
        return Progress(params, opt_state, found.state, progress.steps + 1), found.loss

    return train_step


def beginning(method: Method, variables: Variables) -> Progress:
    """Returns the progress of a run that has done nothing yet."""
    opt_state = method.transform.init(variables.params)
    return Progress(variables.params, opt_state, variables.state, jnp.int32(0))
