"""What is measured at a step: norms, cosines, and the curvature along the update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.studies.moments.ask import B1, B2


class Moments(NamedTuple):
    """An optimizer's moments, as its updates use them.

    Attributes:
        first: m, the velocity, or Adam's first moment with its bias corrected.
        root_second: √v̂, the root of Adam's second moment with its bias corrected; None for SGDM.
    """

    first: Any
    root_second: Any = None


class Run(NamedTuple):
    """A run after a step.

    Attributes:
        params: θ, the true weights.
        opt_state: of the optimizer.
        gradient: of the step's batch, at the point where it was taken.
        update: what the step added to the weights.
    """

    params: Any
    opt_state: Any
    gradient: Any
    update: Any


def moments(opt_state: Any) -> Moments:
    """Reads the moments off the state of SGDM or Adam, with or without prediction."""
    velocity = optax.tree.get(opt_state, "trace")
    if velocity is not None:
        return Moments(velocity)
    count = optax.tree.get(opt_state, "count")
    first, second = (
        optax.tree.bias_correction(optax.tree.get(opt_state, name), decay, count)
        for name, decay in (("mu", B1), ("nu", B2))
    )
    return Moments(first, jax.tree.map(jnp.sqrt, second))


def cosine(one: Any, other: Any) -> Any:
    """The cosine of the angle between two trees, as vectors; NaN if one is zero."""
    return optax.tree.vdot(one, other) / (optax.tree.norm(one) * optax.tree.norm(other))


def measure(loss: Callable[[Any], Any], run: Run, plain: Run, earlier: Any) -> dict[str, Any]:
    """Returns all of ``QUANTITIES`` that the optimizer has, by name.

    Args:
        loss: of weights, on all training examples.
        run: after a step.
        plain: the plain optimizer's after the same step.
        earlier: the first moment of ``run`` some steps before.
    """
    first, root_second = moments(run.opt_state)
    tangents = (run.params,), (run.update,)
    (value, full), (_, bent) = jax.jvp(jax.value_and_grad(loss), *tangents)
    found = {
        "loss": value,
        "gradient": optax.tree.norm(run.gradient),
        "full_gradient": optax.tree.norm(full),
        "first": optax.tree.norm(first),
        "downhill": cosine(first, full),
        "persistence": cosine(first, earlier),
        "curvature": optax.tree.vdot(run.update, bent) / optax.tree.norm(run.update, squared=True),
        "first_agreement": cosine(first, moments(plain.opt_state).first),
        "update": optax.tree.norm(run.update),
    }
    return found if root_second is None else found | _of_second(found["first"], root_second, plain)


def _of_second(first_norm: Any, root_second: Any, plain: Run) -> dict[str, Any]:
    norm = optax.tree.norm(root_second)
    return {
        "root_second": norm,
        "root_second_agreement": cosine(root_second, moments(plain.opt_state).root_second),
        "signal": first_norm / norm,
    }
