"""The arms of every comparison: an optimizer in one of its forms.

An *arm* is named by its form: ``plain``; ``nesterov``, which for Adam is NAdam; ``s=1`` with a
horizon of any length, ``s=1/zero-gradient`` with another predictor than the optimizer's closed
form; ``schedule-free``; ``sam``, and ``sam-equal``, which has half of the steps because each costs
two gradients. A new optimizer, form or predictor is a row in one of the tables here.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.around import as_it_is, at_sharpest, clipped
from experiments.errors import UsageError
from experiments.recipe import Recipe
from experiments.task import GradientOf

if TYPE_CHECKING:
    import optax

PLAIN, NESTEROV, SCHEDULE_FREE = "plain", "nesterov", "schedule-free"
SAM, SAM_EQUAL = "sam", "sam-equal"
FORMS = (PLAIN, NESTEROV, SCHEDULE_FREE, SAM, SAM_EQUAL)
PREDICTION = "prediction"

CLOSED_FORM, LAST_UPDATE = "closed-form", "last-update"
PREDICTORS: Mapping[str, Recipe] = {
    LAST_UPDATE: Recipe("xgrad_optax:last_update"),
    "zero-gradient": Recipe("xgrad_optax:zero_gradient"),
}

_MOMENTUM = {"momentum": 0.9}


class Optimizer(NamedTuple):
    """An optimizer in the forms that exist of it.

    Attributes:
        summary: one line for ``python -m experiments list``.
        plain: takes the learning rate.
        predicted: the same with the closed form; takes ``s``. None: there is no closed form, and
            the horizon goes with the last update.
        nesterov: with Nesterov's momentum, None if there is no such form.
        baseline: what Nesterov's form is called where it stands beside the plain one as the usual
            baseline, None where it is not usual.
        schedule_free: the base of the schedule-free form, None if there is none.
        decays: whether it takes a weight decay, apart from the gradient.
        usual_rate: its usual learning rate, of those of SGD with momentum 0.9 and of Adam.
    """

    summary: str
    plain: Recipe
    predicted: Recipe | None
    nesterov: Recipe | None = None
    baseline: str | None = None
    schedule_free: Recipe | None = None
    decays: bool = False
    usual_rate: Callable[[float, float], float] = lambda sgdm, adam: adam


def _named(name: str, **arguments: Any) -> Recipe:
    return Recipe(f"xgrad_optax.optimizers:{name}", arguments)


OPTIMIZERS: Mapping[str, Optimizer] = {
    "sgdm": Optimizer(
        "SGD with momentum 0.9",
        plain=Recipe("optax:sgd", _MOMENTUM),
        predicted=_named("sgdm", **_MOMENTUM),
        nesterov=Recipe("optax:sgd", {**_MOMENTUM, "nesterov": True}),
        baseline="nesterov",
        schedule_free=Recipe("optax.contrib:schedule_free_sgd"),
        usual_rate=lambda sgdm, adam: sgdm,
    ),
    "rmsprop": Optimizer(
        "RMSprop without momentum", plain=Recipe("optax:rmsprop"), predicted=_named("rmsprop")
    ),
    "adagrad": Optimizer(
        "AdaGrad: its state forgets the gradient, so it repeats its last update",
        plain=Recipe("optax:adagrad"),
        predicted=None,
        # Optax's first sum of squares, 0.1, is above most gradients': at first its steps are SGD's.
        usual_rate=lambda sgdm, adam: sgdm,
    ),
    "adam": Optimizer(
        "Adam",
        plain=Recipe("optax:adam"),
        predicted=_named("adam"),
        nesterov=Recipe("optax:nadam"),
        baseline="nadam",
        schedule_free=Recipe("optax.contrib:schedule_free_adamw"),
    ),
    "adamw": Optimizer(
        "AdamW with Optax's default weight decay",
        plain=Recipe("optax:adamw"),
        predicted=_named("adamw"),
        nesterov=Recipe("optax:nadamw"),
        baseline="nadamw",
        schedule_free=Recipe("optax.contrib:schedule_free_adamw"),
        decays=True,
    ),
    "adabelief": Optimizer(
        "AdaBelief",
        plain=Recipe("optax:adabelief"),
        predicted=_named("adabelief"),
        nesterov=Recipe("optax:adabelief", {"nesterov": True}),
    ),
    "adam3": Optimizer(
        "AdaM3 (AdaMomentum)",
        plain=Recipe("xgrad_optax.transforms:adam3"),
        predicted=_named("adam3"),
        usual_rate=lambda sgdm, adam: adam / 3,
    ),
    "radam": Optimizer(
        "RAdam",
        plain=Recipe("optax:radam"),
        predicted=_named("radam"),
        nesterov=Recipe("optax:radam", {"nesterov": True}),
    ),
    "yogi": Optimizer("Yogi", plain=Recipe("optax:yogi"), predicted=_named("yogi")),
    "adabound": Optimizer(
        "AdaBound", plain=Recipe("xgrad_optax.transforms:adabound"), predicted=_named("adabound")
    ),
    "lion": Optimizer(
        "Lion",
        plain=Recipe("optax:lion"),
        predicted=_named("lion"),
        decays=True,
        usual_rate=lambda sgdm, adam: adam / 3,
    ),
    "muon": Optimizer(
        "Muon",
        plain=Recipe("optax.contrib:muon"),
        predicted=None,
        decays=True,
        usual_rate=lambda sgdm, adam: 10 * adam,
    ),
}

OF_PAPERS = ("sgdm", "rmsprop", "adam", "adamw", "adabelief", "adam3")
"""The optimizers that a comparison takes where none are named."""


class Arm(NamedTuple):
    """What an arm's name says.

    Attributes:
        form: one of ``FORMS``, or ``"prediction"``.
        horizon: steps predicted ahead; of no meaning for other forms.
        predictor: ``"closed-form"`` or a key into ``PREDICTORS``.
    """

    form: str
    horizon: float = 0.0
    predictor: str = CLOSED_FORM


def horizon_label(horizon: float) -> str:
    """Returns how a horizon is named in files and tables."""
    return f"s={horizon!r}".removesuffix(".0")


def arm_of(horizon: float) -> str:
    """Returns the arm of a horizon; that of 0 is Optax alone, not this library with s = 0."""
    return horizon_label(horizon) if horizon else PLAIN


def read_arm(name: str, optimizer: str) -> Arm:
    """Reads the name of an arm.

    Raises:
        UsageError: there is no such arm, or not for this optimizer.
    """
    row = OPTIMIZERS[optimizer]
    if name in FORMS:
        if (name == NESTEROV and not row.nesterov) or (
            name == SCHEDULE_FREE and not row.schedule_free
        ):
            raise UsageError(f"{optimizer} has no arm {name!r}")
        return Arm(name)
    match = re.fullmatch(r"s=(\d+(?:\.\d+)?)(?:/(.+))?", name)
    predictor = (match and match[2]) or CLOSED_FORM
    if not match or predictor not in (CLOSED_FORM, *PREDICTORS):
        raise UsageError(
            f"unknown arm {name!r}; valid: {', '.join(FORMS)}, s=N for a horizon of N steps, and "
            f"s=N/PREDICTOR with {' or '.join(PREDICTORS)}"
        )
    if predictor == CLOSED_FORM and row.predicted is None:
        predictor = LAST_UPDATE  # the library's own default
    return Arm(PREDICTION, float(match[1]), predictor)


def at_params(params: Any, opt_state: Any) -> Any:
    """The point of an ordinary optimizer: the parameters."""
    del opt_state
    return params


class Method(NamedTuple):
    """An arm, ready to train with by :func:`experiments.training.step.step`.

    Attributes:
        transform: turns a gradient into an update of the true parameters.
        point: ``(params, opt_state) -> params`` to take the gradient at.
        evaluated: ``(params, opt_state) -> params`` that the method is judged by.
        around: what is done with a gradient's function before it is called.
    """

    transform: "optax.GradientTransformation"
    point: Callable[[Any, Any], Any] = at_params
    evaluated: Callable[[Any, Any], Any] = at_params
    around: Callable[[GradientOf], GradientOf] = as_it_is


def make_method(
    optimizer: str,
    arm: str,
    learning_rate: Any,
    shape: "optax.Schedule | None" = None,
    *,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
) -> Method:
    """Builds an arm.

    Args:
        optimizer: key into ``OPTIMIZERS``.
        arm: its name.
        learning_rate: the rate; may be traced, so that one compiled step serves all rates.
        shape: the schedule that multiplies it, None for a constant rate. Schedule-free methods
            keep the learning rate as it is.
        weight_decay: for the optimizers that decouple it, None for Optax's own; the others have
            none.
        clip_norm: largest norm of a gradient, None for no limit.
    """
    wanted, row = read_arm(arm, optimizer), OPTIMIZERS[optimizer]
    decay = {"weight_decay": weight_decay} if row.decays and weight_decay is not None else {}
    rate = _scheduled(learning_rate, shape) if shape else learning_rate
    point = evaluated = at_params
    around: Callable[[GradientOf], GradientOf] = as_it_is
    if wanted.form == PREDICTION:
        point, transform = _predicted(row, wanted, rate, decay)
    elif wanted.form == SCHEDULE_FREE and row.schedule_free:
        transform, evaluated = row.schedule_free.build(learning_rate, **decay), _averaged
    elif wanted.form == NESTEROV and row.nesterov:
        transform = row.nesterov.build(rate, **decay)
    else:
        transform = row.plain.build(rate, **decay)
    if wanted.form in (SAM, SAM_EQUAL):
        around = at_sharpest
    return Method(transform, point, evaluated, clipped(around, clip_norm) if clip_norm else around)


def _scheduled(learning_rate: Any, shape: "optax.Schedule") -> "optax.Schedule":
    return lambda count: learning_rate * shape(count)


def _predicted(row: Optimizer, arm: Arm, learning_rate: Any, decay: Mapping[str, Any]) -> Any:
    import xgrad_optax

    if arm.predictor == CLOSED_FORM and row.predicted:
        return row.predicted.build(learning_rate, s=arm.horizon, **decay)
    return xgrad_optax.with_weight_prediction(
        row.plain.build(learning_rate, **decay),
        arm.horizon,
        predictor=PREDICTORS[arm.predictor].build(),
    )


def _averaged(params: Any, opt_state: Any) -> Any:
    import optax

    return optax.contrib.schedule_free_eval_params(opt_state, params)
