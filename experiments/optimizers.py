"""The optimizers under comparison: plain, with weight prediction, and the baselines beside them."""

import dataclasses
import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import optax


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A constructor named by its import path, so that listing names does not import JAX.

    Attributes:
        constructor: ``"module:function"``.
        arguments: keyword arguments it always gets.
    """

    constructor: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, *leading: Any, **more: Any) -> Any:
        """Imports the constructor and calls it; an optimizer's learning rate comes first."""
        return pkgutil.resolve_name(self.constructor)(*leading, **self.arguments, **more)


@dataclasses.dataclass(frozen=True)
class Family:
    """One optimizer of the papers in all the forms that are compared.

    Attributes:
        summary: one line for ``python -m experiments list``.
        plain: the optimizer without this library's prediction: the arm ``s=0``.
        predicted: the same with weight prediction; takes ``s``.
        baselines: what else costs as little and promises the same, by name.
    """

    summary: str
    plain: Recipe
    predicted: Recipe
    baselines: Mapping[str, Recipe] = dataclasses.field(default_factory=dict)


_MOMENTUM = {"momentum": 0.9}

OPTIMIZERS: Mapping[str, Family] = {
    "sgdm": Family(
        "SGD with momentum 0.9",
        plain=Recipe("optax:sgd", _MOMENTUM),
        predicted=Recipe("xgrad_optax.optimizers:sgdm", _MOMENTUM),
        baselines={"nesterov": Recipe("optax:sgd", {**_MOMENTUM, "nesterov": True})},
    ),
    "rmsprop": Family(
        "RMSprop without momentum",
        plain=Recipe("optax:rmsprop"),
        predicted=Recipe("xgrad_optax.optimizers:rmsprop"),
    ),
    "adam": Family(
        "Adam",
        plain=Recipe("optax:adam"),
        predicted=Recipe("xgrad_optax.optimizers:adam"),
        baselines={"nadam": Recipe("optax:nadam")},
    ),
    "adamw": Family(
        "AdamW with Optax's default weight decay",
        plain=Recipe("optax:adamw"),
        predicted=Recipe("xgrad_optax.optimizers:adamw"),
        baselines={"nadamw": Recipe("optax:nadamw")},
    ),
    "adabelief": Family(
        "AdaBelief",
        plain=Recipe("optax:adabelief"),
        predicted=Recipe("xgrad_optax.optimizers:adabelief"),
    ),
    "adam3": Family(
        "AdaM3 (AdaMomentum)",
        plain=Recipe("xgrad_optax.transforms:adam3"),
        predicted=Recipe("xgrad_optax.optimizers:adam3"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Arm:
    """One optimizer in one form: a line in a plot, a row in a table.

    Attributes:
        optimizer: key into ``OPTIMIZERS``.
        label: ``"s=1"``, or the baseline's name.
        horizon: steps predicted ahead, 0 for the plain optimizer, None for a baseline.
        learning_rate: shared by all arms of an optimizer.
    """

    optimizer: str
    label: str
    horizon: float | None
    learning_rate: float


class GradientRule(NamedTuple):
    """Where to take the gradient, and what to do with it.

    Attributes:
        gradient_point: ``(params, opt_state) -> params`` to evaluate the loss at.
        transform: turns that gradient into an update of the true parameters.
    """

    gradient_point: Callable[[Any, Any], Any]
    transform: "optax.GradientTransformation"


def horizon_label(horizon: float) -> str:
    """Returns how a horizon is named in files and tables."""
    return f"s={horizon!r}".removesuffix(".0")


PLAIN = horizon_label(0)


def make_arms(
    learning_rates: Mapping[str, float], horizons: tuple[float, ...], baselines: bool
) -> list[Arm]:
    """Returns the arms of each optimizer in ``learning_rates``: the horizons, then baselines."""
    arms = []
    for name, rate in learning_rates.items():
        arms += [Arm(name, horizon_label(horizon), horizon, rate) for horizon in horizons]
        if baselines:
            arms += [Arm(name, label, None, rate) for label in OPTIMIZERS[name].baselines]
    return arms


def gradient_rule(arm: Arm) -> GradientRule:
    """Builds an arm's optimizer. The arm ``s=0`` is Optax alone, not this library with s = 0."""
    family = OPTIMIZERS[arm.optimizer]
    if arm.horizon is None:
        return at_params(family.baselines[arm.label].build(arm.learning_rate))
    if arm.horizon == 0:
        return at_params(family.plain.build(arm.learning_rate))
    return GradientRule(*family.predicted.build(arm.learning_rate, s=arm.horizon))


def at_params(transform: "optax.GradientTransformation") -> GradientRule:
    """Returns the rule of an ordinary optimizer: the gradient is taken at the parameters."""
    return GradientRule(lambda params, opt_state: params, transform)
