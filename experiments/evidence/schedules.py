"""Shapes of the learning rate over a run, as multiples of the rate that is tuned."""

from collections.abc import Callable, Mapping

import optax

Shape = Callable[[int], optax.Schedule]


def _constant(steps: int) -> optax.Schedule:
    del steps
    return optax.constant_schedule(1.0)


def _cosine(steps: int) -> optax.Schedule:
    return optax.cosine_decay_schedule(1.0, steps)


def _warmup_cosine(steps: int) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, 1.0, max(1, steps // 10), steps)


def _warmup_linear(steps: int) -> optax.Schedule:
    warmup = max(1, steps // 10)
    rise = optax.linear_schedule(0.0, 1.0, warmup)
    return optax.join_schedules([rise, optax.linear_schedule(1.0, 0.0, steps - warmup)], [warmup])


def _step(steps: int) -> optax.Schedule:
    return optax.piecewise_constant_schedule(1.0, {steps // 2: 0.1, 3 * steps // 4: 0.1})


SCHEDULES: Mapping[str, Shape] = {
    "constant": _constant,
    "cosine": _cosine,  # from 1 to 0
    "warmup-cosine": _warmup_cosine,  # a tenth of the steps from 0 to 1, then as cosine
    "warmup-linear": _warmup_linear,  # the same, then in a straight line to 0
    "step": _step,  # a tenth after half of the steps and again after three quarters
}
