"""The train steps that are compared: plain, predicted in every form, and the alternatives.

Listing them does not import JAX.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from experiments import arms
from experiments.bench.floors import (
    BASE_COPY,
    NOTHING,
    READ_MOMENTS,
    ROLLOUT,
    Floor,
    remembered_update,
)
from experiments.bench.optimizers import BENCHED, predictor_of
from experiments.recipe import Recipe

# One for all: it changes no cost, and a small one keeps random data from driving anything to
# infinity or to denormal numbers, which would.
LEARNING_RATE = 1e-4

HORIZON = 1

PLAIN = "plain"
CONTROL = "control"

# The forms of optax.contrib.schedule_free that Optax itself recommends for each optimizer: its
# averaging takes the place of momentum.
_SCHEDULE_FREE = {
    "sgdm": Recipe("optax.contrib:schedule_free_sgd"),
    "adam": Recipe("optax.contrib:schedule_free_adamw"),
    "adamw": Recipe("optax.contrib:schedule_free_adamw", {"weight_decay": 1e-4}),
}


class GradientRule(NamedTuple):
    """Where to take the gradient, and what to do with it.

    Attributes:
        gradient_point: ``(params, opt_state) -> params`` to evaluate the loss at.
        transform: turns that gradient into an update of the true parameters.
    """

    gradient_point: Callable[[Any, Any], Any]
    transform: Any


def at_params(transform: Any) -> GradientRule:
    """Returns the rule of an ordinary optimizer: the gradient is taken at the parameters."""
    return GradientRule(arms.at_params, transform)


def _same(params: Any) -> Any:
    return params


class Method(NamedTuple):
    """One way to train.

    Attributes:
        rule: where the gradient is taken and how it becomes an update.
        container: turns the model's parameters into what the train step carries.
    """

    rule: GradientRule
    container: Callable[[Any], Any] = _same


@dataclasses.dataclass(frozen=True)
class Variant:
    """One train step under comparison.

    Attributes:
        summary: one line for ``python -m experiments list``.
        build: makes it for the optimizer of this name.
        floor: the bytes that it cannot avoid beyond the plain step's; None for the methods of
            others that are no variation of the plain step.
        suits: whether it exists for an optimizer and a dtype.
    """

    summary: str
    build: Callable[[str], Method]
    floor: Floor | None
    suits: Callable[[str, str], bool] = lambda optimizer, dtype: True


def _plain_transform(optimizer: str) -> Any:
    return BENCHED[optimizer].plain.build(LEARNING_RATE)


def _plain(optimizer: str) -> Method:
    return Method(at_params(_plain_transform(optimizer)))


def _closed_form(optimizer: str) -> Method:
    predicted: Any = BENCHED[optimizer].predicted
    return Method(GradientRule(*predicted.build(LEARNING_RATE, s=HORIZON)))


def _last_update(optimizer: str) -> Method:
    from xgrad_optax import last_update

    return _explicit(optimizer, last_update())


def _last_update_half(optimizer: str) -> Method:
    from xgrad_optax import last_update

    return _explicit(optimizer, last_update(dtype="bfloat16"))


def _zero_gradient(optimizer: str) -> Method:
    from xgrad_optax import zero_gradient

    return _explicit(optimizer, zero_gradient())


def _explicit(optimizer: str, predictor: Any) -> Method:
    from xgrad_optax import with_weight_prediction

    transform = _plain_transform(optimizer)
    return Method(GradientRule(*with_weight_prediction(transform, HORIZON, predictor=predictor)))


def _drop_in(optimizer: str) -> Method:
    from xgrad_optax import xgrad

    return Method(at_params(xgrad(_plain_transform(optimizer), HORIZON)))


def _drop_in_closed_form(optimizer: str) -> Method:
    from xgrad_optax import xgrad

    recipe = predictor_of(optimizer)
    assert recipe is not None  # the variant does not suit the others
    predictor = recipe.build(LEARNING_RATE)
    return Method(at_params(xgrad(_plain_transform(optimizer), HORIZON, predictor=predictor)))


def _in_place(optimizer: str) -> Method:
    from xgrad_optax import in_place

    predicted: Any = BENCHED[optimizer].predicted
    return Method(at_params(in_place(predicted.build(LEARNING_RATE, s=HORIZON))))


def _nesterov(optimizer: str) -> Method:
    nesterov: Any = BENCHED[optimizer].nesterov
    return Method(at_params(nesterov.build(LEARNING_RATE)))


def _sam(optimizer: str) -> Method:
    import optax

    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    # Opaque: one call is one update with both its gradients, so that steps can be compared.
    return Method(
        at_params(optax.contrib.sam(_plain_transform(optimizer), ascent, opaque_mode=True))
    )


def _schedule_free(optimizer: str) -> Method:
    return Method(at_params(_SCHEDULE_FREE[optimizer].build(LEARNING_RATE)))


def _lookahead(optimizer: str) -> Method:
    import jax
    import jax.numpy as jnp
    import optax

    transform: Any = optax.lookahead(_plain_transform(optimizer), sync_period=5, slow_step_size=0.5)
    rule = GradientRule(lambda params, opt_state: params.fast, transform)
    # A copy: both halves are donated to the step.
    return Method(
        rule, lambda params: optax.LookaheadParams(params, jax.tree.map(jnp.copy, params))
    )


def has_momentum(optimizer: str) -> bool:
    """Whether the optimizer's moments tell a direction, from which the next update can be read."""
    return predictor_of(optimizer) is not None


VARIANTS: Mapping[str, Variant] = {
    PLAIN: Variant("Optax's optimizer alone; always measured", _plain, NOTHING),
    CONTROL: Variant("the plain step once more: what differs is noise", _plain, NOTHING),
    "closed-form": Variant(
        "explicit form, prediction read off the moments",
        _closed_form,
        READ_MOMENTS,
        lambda optimizer, dtype: has_momentum(optimizer),
    ),
    "in-place": Variant(
        "in-place form: in_place(prediction), nothing kept beside the plain optimizer's state",
        _in_place,
        NOTHING,
        lambda optimizer, dtype: has_momentum(optimizer),
    ),
    "last-update": Variant(
        "explicit form, the last update remembered", _last_update, remembered_update()
    ),
    "last-update-bf16": Variant(
        "the same, remembered in bfloat16",
        _last_update_half,
        remembered_update(bytes_per_number=2),
        lambda optimizer, dtype: dtype != "bfloat16",
    ),
    "zero-gradient": Variant(
        "explicit form, the optimizer rolled out without a gradient",
        _zero_gradient,
        ROLLOUT,
    ),
    "drop-in": Variant("drop-in form: xgrad(optimizer)", _drop_in, BASE_COPY),
    "drop-in-closed-form": Variant(
        "the same, prediction read off the moments: xgrad(optimizer, predictor=...)",
        _drop_in_closed_form,
        BASE_COPY,
        lambda optimizer, dtype: has_momentum(optimizer),
    ),
    "nesterov": Variant(
        "Nesterov's momentum: optax.sgd(nesterov=True), optax.nadam, optax.nadamw",
        _nesterov,
        NOTHING,
        lambda optimizer, dtype: bool(BENCHED[optimizer].baseline),
    ),
    "sam": Variant("optax.contrib.sam, two gradients per update", _sam, None),
    "schedule-free": Variant(
        "optax.contrib.schedule_free_sgd, schedule_free_adamw",
        _schedule_free,
        None,
        lambda optimizer, dtype: optimizer in _SCHEDULE_FREE,
    ),
    "lookahead": Variant("optax.lookahead (Zhang et al., 2019)", _lookahead, None),
}

# This library's own, as opposed to the plain step and the alternatives.
PREDICTED = (
    "closed-form",
    "in-place",
    "last-update",
    "last-update-bf16",
    "zero-gradient",
    "drop-in",
    "drop-in-closed-form",
)
