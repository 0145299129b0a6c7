"""Shapes of the learning rate over a run, as multiples of the rate that is tuned."""

from collections.abc import Callable, Mapping
from typing import Any

import optax

from experiments.arms import Method, make_method
from experiments.task import Protocol

Shape = Callable[[int], optax.Schedule]


def _cosine(steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(1.0, steps)


def _warmup_cosine(steps: int) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, 1.0, max(1, steps // 10), steps)


def _warmup_linear(steps: int) -> optax.Schedule:
    warmup = max(1, steps // 10)
    rise = optax.linear_schedule(0.0, 1.0, warmup)
    return optax.join_schedules([rise, optax.linear_schedule(1.0, 0.0, steps - warmup)], [warmup])


def _step(steps: int) -> optax.Schedule:
    return optax.piecewise_constant_schedule(1.0, {3 * steps // 4: 0.1})


def _two_steps(steps: int) -> optax.Schedule:
    return optax.piecewise_constant_schedule(1.0, {steps // 2: 0.1, 29 * steps // 40: 0.1})


def _halving(steps: int) -> optax.Schedule:
    return optax.piecewise_constant_schedule(1.0, {part * steps // 7: 0.5 for part in range(1, 7)})


SCHEDULES: Mapping[str, Shape | None] = {
    "constant": None,  # the rate stays as it is
    "cosine": _cosine,  # from 1 to 0
    "warmup-cosine": _warmup_cosine,  # a tenth of the steps from 0 to 1, then as cosine
    "warmup-linear": _warmup_linear,  # the same, then in a straight line to 0
    "step": _step,  # a tenth after three quarters of the steps
    "two-steps": _two_steps,  # a tenth after half of the steps and again after 72.5 %
    "halving": _halving,  # half of it after each seventh of the steps
}


def method_of(
    protocol: Protocol,
    optimizer: str,
    arm: str,
    learning_rate: Any,
    steps: int,
    weight_decay: float | None = None,
) -> Method:
    """Builds an arm as a protocol trains it.

    Args:
        protocol: gives schedule, weight decay and clipping.
        optimizer: key into ``arms.OPTIMIZERS``.
        arm: as for :func:`~experiments.arms.read_arm`.
        learning_rate: what the schedule is multiplied by; may be traced.
        steps: number of steps of the whole run.
        weight_decay: in place of the protocol's, None for that.
    """
    shape = SCHEDULES[protocol.schedule]
    return make_method(
        optimizer,
        arm,
        learning_rate,
        shape and shape(steps),
        weight_decay=protocol.weight_decay if weight_decay is None else weight_decay,
        clip_norm=protocol.clip_norm,
    )
