"""How a step is made from gradients: plain, with prediction, and what it is compared with.

An *arm* names a method: ``plain``; ``nesterov``, which for Adam is NAdam; ``s=1`` with a horizon of
any length, ``s=1/zero-gradient`` with another predictor than the optimizer's closed form;
``schedule-free``; ``sam``, and ``sam-equal``, which has half of the steps because each costs two
gradients.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.errors import UsageError
from experiments.optimizers import OPTIMIZERS as FAMILIES
from experiments.optimizers import Recipe

if TYPE_CHECKING:
    import optax

    from experiments.evidence.task import Gradient

_DECOUPLED = ("adamw", "lion", "muon")
_SAM_RADIUS = 0.05  # the paper's, arXiv 2010.01412

PLAIN, NESTEROV, SCHEDULE_FREE, SAM, SAM_EQUAL = (
    "plain",
    "nesterov",
    "schedule-free",
    "sam",
    "sam-equal",
)
FORMS = (PLAIN, NESTEROV, SCHEDULE_FREE, SAM, SAM_EQUAL)
CLOSED_FORM = "closed-form"
PREDICTORS: Mapping[str, Recipe] = {
    "last-update": Recipe("xgrad_optax:last_update"),
    "zero-gradient": Recipe("xgrad_optax:zero_gradient"),
}


class Optimizer(NamedTuple):
    """An optimizer in the forms that exist of it.

    Attributes:
        plain: takes the learning rate.
        predicted: the same with the closed form; takes ``s``. None: there is no closed form, and
            the horizon goes with the last update.
        nesterov: with Nesterov's momentum, None if there is no such form.
        schedule_free: the base of the schedule-free form, None if there is none.
    """

    plain: Recipe
    predicted: Recipe | None
    nesterov: Recipe | None = None
    schedule_free: Recipe | None = None


def _of_papers(name: str, **more: Recipe) -> Optimizer:
    """Returns an optimizer that ``compare`` has too; its baseline there is Nesterov's form."""
    family = FAMILIES[name]
    nesterov = next(iter(family.baselines.values()), None)
    return Optimizer(family.plain, family.predicted, **{"nesterov": nesterov, **more})


OPTIMIZERS: Mapping[str, Optimizer] = {
    "sgdm": _of_papers("sgdm", schedule_free=Recipe("optax.contrib:schedule_free_sgd")),
    "rmsprop": _of_papers("rmsprop"),
    "adam": _of_papers("adam", schedule_free=Recipe("optax.contrib:schedule_free_adamw")),
    "adamw": _of_papers("adamw", schedule_free=Recipe("optax.contrib:schedule_free_adamw")),
    "adabelief": _of_papers("adabelief", nesterov=Recipe("optax:adabelief", {"nesterov": True})),
    "adam3": _of_papers("adam3"),
    "radam": Optimizer(
        Recipe("optax:radam"),
        Recipe("xgrad_optax.optimizers:radam"),
        Recipe("optax:radam", {"nesterov": True}),
    ),
    "yogi": Optimizer(Recipe("optax:yogi"), Recipe("xgrad_optax.optimizers:yogi")),
    "adabound": Optimizer(
        Recipe("xgrad_optax.transforms:adabound"), Recipe("xgrad_optax.optimizers:adabound")
    ),
    "lion": Optimizer(Recipe("optax:lion"), Recipe("xgrad_optax.optimizers:lion")),
    "muon": Optimizer(Recipe("optax.contrib:muon"), None),
}


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


def read_arm(name: str, optimizer: str) -> Arm:
    """Reads the name of an arm.

    Raises:
        UsageError: there is no such arm, or not for this optimizer.
    """
    forms = OPTIMIZERS[optimizer]
    if name in FORMS:
        if (name == NESTEROV and not forms.nesterov) or (
            name == SCHEDULE_FREE and not forms.schedule_free
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
    if predictor == CLOSED_FORM and forms.predicted is None:
        predictor = "last-update"  # the library's own default
    return Arm("prediction", float(match[1]), predictor)


class Step(NamedTuple):
    """What one step gives.

    Attributes:
        loss: the training loss where the gradient was taken.
        params: the new parameters.
        opt_state: the optimizer's new state.
        state: the model's new state.
    """

    loss: Any
    params: Any
    opt_state: Any
    state: Any


class Method(NamedTuple):
    """An arm, ready to train with.

    Attributes:
        init: ``params -> opt_state``.
        step: ``(gradient, params, opt_state) -> Step``, where ``gradient`` maps parameters to a
            :class:`~experiments.evidence.task.Gradient`.
        evaluated: ``(params, opt_state) -> params`` that the method is judged by.
    """

    init: Callable[[Any], Any]
    step: Callable[[Callable[[Any], "Gradient"], Any, Any], Step]
    evaluated: Callable[[Any, Any], Any]


def make_method(
    optimizer: str,
    arm: str,
    learning_rate: Any,
    shape: "optax.Schedule",
    *,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> Method:
    """Builds an arm.

    Args:
        optimizer: key into ``OPTIMIZERS``.
        arm: its name.
        learning_rate: what ``shape`` is multiplied by; may be traced, so that one compiled step
            serves all rates.
        shape: the schedule. Schedule-free methods keep the learning rate as it is.
        weight_decay: for the optimizers that decouple it; the others have none.
        clip_norm: largest norm of a gradient, None for no limit.
    """
    wanted = read_arm(arm, optimizer)
    forms = OPTIMIZERS[optimizer]
    decay: Mapping[str, Any] = {"weight_decay": weight_decay} if optimizer in _DECOUPLED else {}

    def schedule(count: Any) -> Any:
        return learning_rate * shape(count)

    if wanted.form == "prediction":
        point, transform = _predicted(forms, wanted, schedule, decay)
        return _method(transform, clip_norm, point=point)
    if wanted.form == SCHEDULE_FREE and forms.schedule_free:
        import optax

        return _method(
            forms.schedule_free.build(learning_rate, **decay),
            clip_norm,
            evaluated=lambda params, state: optax.contrib.schedule_free_eval_params(state, params),
        )
    recipe = forms.nesterov if wanted.form == NESTEROV and forms.nesterov else forms.plain
    transform = recipe.build(schedule, **decay)
    if wanted.form in (SAM, SAM_EQUAL):
        return _method(transform, clip_norm, around=_at_sharpest)
    return _method(transform, clip_norm)


def _predicted(forms: Optimizer, arm: Arm, schedule: Any, decay: Mapping[str, Any]) -> Any:
    import xgrad_optax

    if arm.predictor == CLOSED_FORM and forms.predicted:
        return forms.predicted.build(schedule, s=arm.horizon, **decay)
    return xgrad_optax.with_weight_prediction(
        forms.plain.build(schedule, **decay),
        arm.horizon,
        predictor=PREDICTORS[arm.predictor].build(),
    )


def _at_params(params: Any, opt_state: Any) -> Any:
    del opt_state
    return params


def _method(
    transform: "optax.GradientTransformation",
    clip_norm: float | None,
    *,
    point: Callable[[Any, Any], Any] = _at_params,
    evaluated: Callable[[Any, Any], Any] = _at_params,
    around: Callable[[Callable[[Any], "Gradient"]], Callable[[Any], "Gradient"]] = lambda g: g,
) -> Method:
    import optax

    clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()

    def step(gradient: Callable[[Any], "Gradient"], params: Any, opt_state: Any) -> Step:
        found = around(gradient)(point(params, opt_state))
        # Clipping keeps no state; outside the chain the states stay the optimizer's own.
        clipped, _ = clip.update(found.params, clip.init(params))
        updates, opt_state = transform.update(clipped, opt_state, params)
        return Step(found.loss, optax.apply_updates(params, updates), opt_state, found.state)

    return Method(transform.init, step, evaluated)


def _at_sharpest(gradient: Callable[[Any], "Gradient"]) -> Callable[[Any], "Gradient"]:
    """Takes the gradient where the loss is about highest nearby: SAM, arXiv 2010.01412, eq. 2."""

    @functools.wraps(gradient)
    def sharpest(params: Any) -> "Gradient":
        import jax.numpy as jnp
        import optax

        here = gradient(params)
        scale = _SAM_RADIUS / jnp.maximum(optax.tree.norm(here.params), 1e-12)
        there = gradient(optax.tree.add_scale(params, scale, here.params))
        return there._replace(loss=here.loss)

    return sharpest
