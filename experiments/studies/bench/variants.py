"""The train steps that are compared: plain, predicted in every form, and the alternatives.

Listing them does not import JAX.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from experiments.arms import PREDICTORS, Method
from experiments.studies.bench.floors import (
    BASE_COPY,
    NOTHING,
    READ_MOMENTS,
    ROLLOUT,
    Floor,
    remembered_update,
)
from experiments.studies.bench.optimizers import BENCHED, predictor_of

# One for all: it changes no cost, and a small one keeps random data from driving anything to
# infinity or to denormal numbers, which would.
LEARNING_RATE = 1e-4

HORIZON = 1

PLAIN = "plain"
CONTROL = "control"


def _same(params: Any) -> Any:
    return params


class Way(NamedTuple):
    """One way to train.

    Attributes:
        method: where the gradient is taken and how it becomes an update.
        container: turns the model's parameters into what the train step carries.
    """

    method: Method
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
    build: Callable[[str], Way]
    floor: Floor | None
    suits: Callable[[str, str], bool] = lambda optimizer, dtype: True


def _plain_transform(optimizer: str) -> Any:
    return BENCHED[optimizer].plain.build(LEARNING_RATE)


def _prediction(optimizer: str) -> Any:
    predicted: Any = BENCHED[optimizer].predicted
    return predicted.build(LEARNING_RATE, s=HORIZON)


def _explicit(prediction: Any) -> Way:
    point, transform = prediction
    return Way(Method(transform, point))


def _plain(optimizer: str) -> Way:
    return Way(Method(_plain_transform(optimizer)))


def _closed_form(optimizer: str) -> Way:
    return _explicit(_prediction(optimizer))


def _predicted_by(predictor: str, **settings: Any) -> Callable[[str], Way]:
    """Returns what makes the explicit form with a predictor that any optimizer has."""

    def build(optimizer: str) -> Way:
        from xgrad_optax import with_weight_prediction

        found = PREDICTORS[predictor].build(**settings)
        return _explicit(
            with_weight_prediction(_plain_transform(optimizer), HORIZON, predictor=found)
        )

    return build


def _drop_in(optimizer: str) -> Way:
    from xgrad_optax import xgrad

    return Way(Method(xgrad(_plain_transform(optimizer), HORIZON)))


def _drop_in_closed_form(optimizer: str) -> Way:
    from xgrad_optax import xgrad

    recipe = predictor_of(optimizer)
    assert recipe is not None  # the variant does not suit the others
    predictor = recipe.build(LEARNING_RATE)
    return Way(Method(xgrad(_plain_transform(optimizer), HORIZON, predictor=predictor)))


def _in_place(optimizer: str) -> Way:
    from xgrad_optax import in_place

    return Way(Method(in_place(_prediction(optimizer))))


def _nesterov(optimizer: str) -> Way:
    nesterov: Any = BENCHED[optimizer].nesterov
    return Way(Method(nesterov.build(LEARNING_RATE)))


def _sam(optimizer: str) -> Way:
    import optax

    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    # Opaque: one call is one update with both its gradients, so that steps can be compared.
    return Way(Method(optax.contrib.sam(_plain_transform(optimizer), ascent, opaque_mode=True)))


def _schedule_free(optimizer: str) -> Way:
    """The form that Optax itself recommends: its averaging takes the place of momentum."""
    row = BENCHED[optimizer]
    schedule_free: Any = row.schedule_free
    decay = {"weight_decay": 1e-4} if row.decays else {}
    return Way(Method(schedule_free.build(LEARNING_RATE, **decay)))


def _lookahead(optimizer: str) -> Way:
    import jax
    import jax.numpy as jnp
    import optax

    transform: Any = optax.lookahead(_plain_transform(optimizer), sync_period=5, slow_step_size=0.5)
    # A copy: both halves are donated to the step.
    return Way(
        Method(transform, lambda params, opt_state: params.fast),
        lambda params: optax.LookaheadParams(params, jax.tree.map(jnp.copy, params)),
    )


def has_momentum(optimizer: str) -> bool:
    """Whether the optimizer's moments tell a direction, from which the next update can be read."""
    return predictor_of(optimizer) is not None


def _with_momentum(optimizer: str, dtype: str) -> bool:
    del dtype
    return has_momentum(optimizer)


VARIANTS: Mapping[str, Variant] = {
    PLAIN: Variant("Optax's optimizer alone; always measured", _plain, NOTHING),
    CONTROL: Variant("the plain step once more: what differs is noise", _plain, NOTHING),
    "closed-form": Variant(
        "explicit form, prediction read off the moments",
        _closed_form,
        READ_MOMENTS,
        _with_momentum,
    ),
    "in-place": Variant(
        "in-place form: in_place(prediction), nothing kept beside the plain optimizer's state",
        _in_place,
        NOTHING,
        _with_momentum,
    ),
    "last-update": Variant(
        "explicit form, the last update remembered",
        _predicted_by("last-update"),
        remembered_update(),
    ),
    "last-update-bf16": Variant(
        "the same, remembered in bfloat16",
        _predicted_by("last-update", dtype="bfloat16"),
        remembered_update(bytes_per_number=2),
        lambda optimizer, dtype: dtype != "bfloat16",
    ),
    "zero-gradient": Variant(
        "explicit form, the optimizer rolled out without a gradient",
        _predicted_by("zero-gradient"),
        ROLLOUT,
    ),
    "drop-in": Variant("drop-in form: xgrad(optimizer)", _drop_in, BASE_COPY),
    "drop-in-closed-form": Variant(
        "the same, prediction read off the moments: xgrad(optimizer, predictor=...)",
        _drop_in_closed_form,
        BASE_COPY,
        _with_momentum,
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
        lambda optimizer, dtype: bool(BENCHED[optimizer].schedule_free),
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
