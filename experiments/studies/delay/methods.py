"""A setting of an arm, ready to train with: late gradients by the library's own ``delayed``."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

import xgrad_optax
from experiments.arms import Method, at_params
from experiments.around import as_it_is, clipped
from experiments.recipe import Recipe
from experiments.studies.delay.arms import (
    DC_ASGD,
    IN_FLIGHT,
    LINEAR,
    NESTEROV,
    PIPEMARE,
    ZERO_GRADIENT,
    Setting,
)
from experiments.task import Protocol
from experiments.training.late import compensated, following_drift, pipemare_schedule
from experiments.training.schedules import SCHEDULES

_ANNEALED = 4  # PipeMare's rate reaches the plain one after this part of the updates


class Optimizer(NamedTuple):
    """How an optimizer is built from a rate and a momentum.

    Attributes:
        plain: takes the rate.
        predicted: the library's form with a closed-form prediction.
        momentum: what it calls the momentum.
        decays: whether it takes a weight decay.
    """

    plain: Recipe
    predicted: Recipe
    momentum: str
    decays: bool


OPTIMIZERS: Mapping[str, Optimizer] = {
    "sgdm": Optimizer(
        Recipe("optax:sgd"), Recipe("xgrad_optax.optimizers:sgdm"), "momentum", decays=False
    ),
    "adamw": Optimizer(
        Recipe("optax:adamw"), Recipe("xgrad_optax.optimizers:adamw"), "b1", decays=True
    ),
}


def method_of(
    protocol: Protocol,
    optimizer: str,
    delay: int,
    setting: Setting,
    learning_rate: Any,
    updates: int,
    axis: str | None = None,
) -> Method:
    """Builds a setting of an arm.

    Args:
        protocol: gives schedule, weight decay and clipping.
        optimizer: key into ``OPTIMIZERS``.
        delay: τ, updates that gradients are late.
        setting: its method is known before anything is compiled; its numbers may be traced.
        learning_rate: what the schedule is multiplied by; may be traced.
        updates: number of updates of the whole run.
        axis: name of the axis of the workers, None for one worker.
    """
    row, shape = OPTIMIZERS[optimizer], SCHEDULES[protocol.schedule]
    decay = protocol.weight_decay if row.decays else None
    given = {row.momentum: setting.momentum} | ({} if decay is None else {"weight_decay": decay})
    rate = _scheduled(learning_rate, shape(updates)) if shape else learning_rate
    if setting.method == PIPEMARE:
        rate = pipemare_schedule(rate, delay, max(1, updates // _ANNEALED))
    prediction = _PREDICTIONS[setting.method](row, rate, delay, setting, given)
    late = xgrad_optax.delayed(
        prediction,
        delay,
        reduce=_mean_over(axis) if axis else None,
        in_flight=setting.method == IN_FLIGHT,
    )
    point, transform = late
    if setting.method == PIPEMARE:
        ahead = setting.horizon * setting.strength
        transform = following_drift(late.tx, delay)
        point = _after_drift(ahead)
    around = clipped(as_it_is, protocol.clip_norm) if protocol.clip_norm else as_it_is
    return Method(transform, point, at_params, around)


def _scheduled(learning_rate: Any, shape: optax.Schedule) -> optax.Schedule:
    return lambda count: learning_rate * shape(count)


def _mean_over(axis: str) -> Callable[[Any], Any]:
    return lambda gradients: jax.lax.pmean(gradients, axis)


def _after_drift(ahead: Any) -> Callable[[Any, Any], Any]:
    return lambda params, state: optax.tree.add_scale(params, ahead, state.drift)


Build = Callable[[Optimizer, Any, int, Setting, Mapping[str, Any]], Any]


def _linear(row: Optimizer, rate: Any, delay: int, setting: Setting, given: Any) -> Any:
    del delay
    return row.predicted.build(rate, s=setting.horizon, **given)


def _zero_gradient(row: Optimizer, rate: Any, delay: int, setting: Setting, given: Any) -> Any:
    # A horizon that is known is unrolled; that of these arms is always the same.
    predictor = xgrad_optax.zero_gradient()
    return xgrad_optax.with_weight_prediction(
        row.plain.build(rate, **given), delay + 1, predictor=predictor
    )


def _unpredicted(row: Optimizer, rate: Any, delay: int, setting: Setting, given: Any) -> Any:
    del delay
    nesterov = {"nesterov": True} if setting.method == NESTEROV else {}
    return xgrad_optax.with_weight_prediction(row.plain.build(rate, **given, **nesterov), 0)


def _compensated(row: Optimizer, rate: Any, delay: int, setting: Setting, given: Any) -> Any:
    correction = compensated(delay, setting.strength, setting.adaptive)
    chain = optax.chain(correction, row.plain.build(rate, **given))
    return xgrad_optax.with_weight_prediction(chain, 0)


_PREDICTIONS: Mapping[str, Build] = {
    LINEAR: _linear,
    ZERO_GRADIENT: _zero_gradient,
    IN_FLIGHT: _zero_gradient,
    NESTEROV: _unpredicted,
    PIPEMARE: _unpredicted,
    DC_ASGD: _compensated,
}
