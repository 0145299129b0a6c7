"""What a stage updates its weights by, in every method of the arms."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

import xgrad_optax
from experiments.studies.pipeline.arms import DC_ASGD, NESTEROV, PIPEMARE, ZERO_GRADIENT, Setting
from experiments.training.late import compensated, following_drift, pipemare_schedule
from xgrad_optax.stability import effective_horizon


class Numbers(NamedTuple):
    """The numbers of a setting, arguments of a compiled program.

    Attributes:
        rate: the learning rate.
        momentum: SGDM's μ, Adam's β₁.
        strength: DC-ASGD's λ.
        adaptive: whether that is divided by the root of the mean square.
    """

    rate: Any
    momentum: Any
    strength: Any
    adaptive: Any


class Late(NamedTuple):
    """How late a stage's gradients are.

    Attributes:
        delay: τ, which may be traced.
        longest: that of the first stage.
        updates: number of updates of the whole run.
    """

    delay: Any
    longest: int
    updates: int


class Estimating(NamedTuple):
    """A transform that knows about where its weights were τ updates ago.

    Attributes:
        init: as of an Optax transform.
        update: likewise.
        past_params: ``(params, opt_state) -> params``.
    """

    init: Callable[..., Any]
    update: Callable[..., Any]
    past_params: Callable[[Any, Any], Any]


_ANNEALED = 4  # PipeMare's rate reaches the plain one after this part of the updates

Build = Callable[[Any, Late], Any]
"""Takes a stage's horizon and its lateness."""


def optimizers_of(name: str, setting: Setting, numbers: Numbers) -> Build:
    """Returns what builds the optimizer of a stage.

    Args:
        name: ``"sgdm"`` or ``"adamw"``.
        setting: its method counts, not its numbers.
        numbers: these.
    """
    if setting.method == ZERO_GRADIENT:
        return _zero_gradient(name, numbers)
    if setting.method == NESTEROV:
        return lambda s, late: _plain(name, numbers.rate, numbers, nesterov=True)
    if setting.method == PIPEMARE:
        return lambda s, late: _pipemare(name, numbers, late)
    if setting.method == DC_ASGD:
        return lambda s, late: _compensated(name, numbers, late)
    if name == "sgdm":
        return lambda s, late: xgrad_optax.sgdm(numbers.rate, s=s, momentum=numbers.momentum)
    return lambda s, late: xgrad_optax.adamw(numbers.rate, s=s, b1=numbers.momentum)


def _plain(name: str, rate: Any, numbers: Numbers, nesterov: bool = False) -> Any:
    if name == "sgdm":
        return optax.sgd(rate, numbers.momentum, nesterov=nesterov)
    return optax.adamw(rate, b1=numbers.momentum, nesterov=nesterov)


def _zero_gradient(name: str, numbers: Numbers) -> Build:
    if name == "sgdm":
        # Rolled out with zero gradients, SGDM moves as its closed form does so far ahead.
        return lambda s, late: xgrad_optax.sgdm(
            numbers.rate,
            s=effective_horizon(s, numbers.momentum),
            momentum=numbers.momentum,
        )
    # Built once: a state that is rolled out remembers the very transform that made it.
    inner, predictor = _plain(name, numbers.rate, numbers), xgrad_optax.zero_gradient()
    return lambda s, late: xgrad_optax.with_weight_prediction(inner, s, predictor=predictor)


def _pipemare(name: str, numbers: Numbers, late: Late) -> Estimating:
    rate = pipemare_schedule(numbers.rate, late.delay, max(1, late.updates // _ANNEALED))
    drifting = following_drift(_plain(name, rate, numbers), late.delay)

    def past_params(params: Any, state: Any) -> Any:
        return optax.tree.add_scale(params, -jnp.float32(late.delay), state.drift)

    return Estimating(drifting.init, drifting.update, past_params)


def _compensated(name: str, numbers: Numbers, late: Late) -> Any:
    correction = compensated(late.delay, numbers.strength, numbers.adaptive, late.longest)
    return optax.chain(correction, _plain(name, numbers.rate, numbers))
