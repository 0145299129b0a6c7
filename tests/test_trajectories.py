"""Whole trajectories against the NumPy references, in float64, in all forms."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xgrad_optax
from tests import reference
from xgrad_optax import in_place, predictors, transforms, with_weight_prediction, xgrad

pytestmark = pytest.mark.usefixtures("quickly_compiled")
STEPS = 48
NETWORK = reference.TanhNetwork()


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


# --------------------------------------------------------------------------------------------------
# One row per optimizer
# --------------------------------------------------------------------------------------------------

# Optax's hyperparameters and moments -> the references'
PAPER_NAMES = {
    "b1": "β1",
    "b2": "β2",
    "decay": "ρ",
    "eps": "ε",
    "eps_in_sqrt": "ε_in_sqrt",
    "eps_root": "ε_root",
    "final_scale": "final_scale",
    "gamma": "κ",
    "momentum": "μ",
    "threshold": "threshold",
    "weight_decay": "λ",
}
OPTAX_FIELDS = {"m": "mu", "v": "nu", "s": "nu", "b": "trace"}


@dataclasses.dataclass(frozen=True)
class Case:
    """One optimizer as this library, Optax and the papers write it.

    Attributes:
      γ: initial learning rate.
      named: the optimizer with prediction.
      namesake: the same without.
      paper: its NumPy reference.
      options: hyperparameters, far from the defaults so that each of them must arrive.
      predictor: the closed form to wrap the namesake with, ``learning_rate -> predictor``.
      fields: in which field of Optax's state each of the reference's moments is.
      predict: how the reference predicts.
    """

    γ: float
    named: Callable[..., xgrad_optax.WeightPrediction]
    namesake: Callable[..., optax.GradientTransformation]
    paper: type[reference.Optimizer]
    options: dict[str, Any]
    predictor: Callable[[Any], predictors.Predictor]
    fields: Mapping[str, str] = dataclasses.field(default_factory=lambda: OPTAX_FIELDS)
    predict: Callable[..., Any] = reference.closed_form

    def damped(self, predictor: Callable[[Any], predictors.Predictor]) -> "Case":
        """The same, predicted as without further gradients."""
        named = partial(self.named, damped=True)
        return dataclasses.replace(self, named=named, predictor=predictor, predict=reference.damped)

    def reference(self) -> reference.Optimizer:
        return self.paper(**{PAPER_NAMES[name]: value for name, value in self.options.items()})

    def moments(self, opt_state: Any) -> dict[str, Any]:
        return {name: optax.tree.get(opt_state, self.fields[name]) for name in self.paper.moments}


def sgd_with_coupled_decay(learning_rate, *, momentum, weight_decay):
    sgd = optax.sgd(learning_rate, momentum=momentum)
    return optax.chain(optax.add_decayed_weights(weight_decay), sgd)


def rmsprop_predictor(learning_rate, **options):
    del learning_rate  # it is in the update, or in the buffer, already
    return predictors.rmsprop(**options)


BETAS = {"b1": 0.8, "b2": 0.95}
ADAM = {**BETAS, "eps": 1e-2, "eps_root": 1e-4}
RADAM = {**ADAM, "threshold": 6.0}  # ρ_t passes it at step 7 of 48
YOGI = {**BETAS, "eps": 1e-2}
ADABOUND = {**BETAS, "eps": 1e-3, "final_scale": 3.0, "gamma": 0.05}  # both bounds get to act
RMSPROP = {"decay": 0.95, "eps": 1e-3}
RMSPROP_OUTSIDE = {**RMSPROP, "eps_in_sqrt": False}
RMSPROP_MOMENTUM = {**RMSPROP, "momentum": 0.8}
SGDM = {"momentum": 0.8}
SGDM_DECAY = {**SGDM, "weight_decay": 0.1}
TRACE = {"v": "trace"}

ours, papers = xgrad_optax, reference
CASES = {
    "sgdm": Case(0.1, ours.sgdm, optax.sgd, papers.SGDM, SGDM, predictors.sgdm, TRACE),
    "sgdm-decay": Case(
        0.1, ours.sgdm, sgd_with_coupled_decay, papers.SGDM, SGDM_DECAY, predictors.sgdm, TRACE
    ),
    "rmsprop": Case(0.02, ours.rmsprop, optax.rmsprop, papers.RMSprop, RMSPROP, rmsprop_predictor),
    "rmsprop-outside": Case(
        0.02, ours.rmsprop, optax.rmsprop, papers.RMSprop, RMSPROP_OUTSIDE, rmsprop_predictor
    ),
    "rmsprop-momentum": Case(
        0.02,
        ours.rmsprop,
        optax.rmsprop,
        papers.RMSpropMomentum,
        RMSPROP_MOMENTUM,
        partial(rmsprop_predictor, momentum=0.8),
    ),
    "adam": Case(0.02, ours.adam, optax.adam, papers.Adam, ADAM, partial(predictors.adam, **ADAM)),
    "adamw": Case(
        0.02,
        ours.adamw,
        optax.adamw,
        papers.AdamW,
        {**ADAM, "weight_decay": 0.3},
        partial(predictors.adam, **ADAM),
    ),
    "nadam": Case(
        0.02, ours.nadam, optax.nadam, papers.NAdam, ADAM, partial(predictors.adam, **ADAM)
    ),
    "radam": Case(
        0.02, ours.radam, optax.radam, papers.RAdam, RADAM, partial(predictors.radam, **RADAM)
    ),
    "yogi": Case(0.02, ours.yogi, optax.yogi, papers.Yogi, YOGI, partial(predictors.adam, **YOGI)),
    "adabelief": Case(
        0.02,
        ours.adabelief,
        optax.adabelief,
        papers.AdaBelief,
        ADAM,
        partial(predictors.adabelief, **BETAS, eps=1e-2),
    ),
    "adam3": Case(
        0.01,
        ours.adam3,
        transforms.adam3,
        papers.AdaM3,
        {**BETAS, "eps": 1e-4},
        partial(predictors.adam3, **BETAS),
    ),
    "lion": Case(
        0.01,
        ours.lion,
        optax.lion,
        papers.Lion,
        {**BETAS, "weight_decay": 0.3},
        predictors.lion,
    ),
    "adabound": Case(
        0.05,
        ours.adabound,
        transforms.adabound,
        papers.AdaBound,
        ADABOUND,
        partial(predictors.adabound, **ADABOUND),
    ),
}
DAMPED = {
    "sgdm": partial(predictors.sgdm, momentum=0.8),
    "rmsprop-momentum": partial(rmsprop_predictor, momentum=0.8),
    "adam": partial(predictors.adam, **ADAM),
    "nadam": partial(predictors.adam, **ADAM, nesterov=True),
    "yogi": partial(predictors.yogi, **YOGI),
    "adabelief": partial(predictors.adabelief, **BETAS, eps=1e-2),
    "adam3": partial(predictors.adam3, **BETAS),
}
DAMPED_CASES = {
    f"{name}-damped": CASES[name].damped(partial(predictor, damped=True))
    for name, predictor in DAMPED.items()
}
LINEAR_CASES, CASES = CASES, CASES | DAMPED_CASES


# --------------------------------------------------------------------------------------------------
# Learning rates: for Optax, and as a function of t for the reference
# --------------------------------------------------------------------------------------------------

DROPS = {17: 0.5, 34: 0.2}


def constant(γ):
    return γ, lambda t: γ


def stepped(γ):
    def γ_of(t):
        return γ * np.prod([factor for start, factor in DROPS.items() if t >= start])

    return optax.piecewise_constant_schedule(γ, DROPS), γ_of


# --------------------------------------------------------------------------------------------------
# Running and comparing
# --------------------------------------------------------------------------------------------------


def loss(params, x, y):
    return 0.5 * jnp.mean((jnp.tanh(x @ params["W"].T) @ params["a"] - y) ** 2)


gradient = jax.jit(jax.grad(loss))


def explicit(prediction):
    """The transform, and (θ, θ̂) as functions of what this form's train step holds: θ."""
    lookahead_params, tx = prediction
    return tx, lambda params, state: (params, lookahead_params(params, state))


def drop_in(tx):
    """The transform, and (θ, θ̂) as functions of what this form's train step holds: θ̂."""
    return tx, lambda params, state: (xgrad_optax.base_params(params, state), params)


def run_all(forms, case):
    """The trajectory of each of several forms, row t as it stands after t updates.

    All in one program: compiling twenty programs would take several times as long.
    """
    minibatches = jax.tree.map(
        lambda *x: np.stack(x), *(NETWORK.minibatch(t) for t in range(STEPS))
    )

    def rows(tx, points):
        def step(carry, minibatch):
            params, state = carry
            θ, θ_hat = points(params, state)
            updates, next_state = tx.update(gradient(θ_hat, *minibatch), state, params)
            next_params = optax.apply_updates(params, updates)
            return (next_params, next_state), (θ, θ_hat, case.moments(state))

        params = jax.tree.map(jnp.asarray, NETWORK.unflatten(NETWORK.θ))
        return jax.lax.scan(step, (params, tx.init(params)), minibatches)[1]

    found = jax.jit(lambda: [rows(*form) for form in forms.values()])()
    return {
        key: reference.Trajectory(
            NETWORK.flatten(θ),
            NETWORK.flatten(θ_hat),
            {name: NETWORK.flatten(moment) for name, moment in moments.items()},
        )
        for key, (θ, θ_hat, moments) in zip(forms, found, strict=True)
    }


def run(form, case):
    """The trajectory of one form."""
    return run_all({"the only one": form}, case)["the only one"]


def run_reference(optimizer, γ, s, predict=reference.closed_form):
    expected = reference.algorithm_1(optimizer, NETWORK.gradient, NETWORK.θ, s, STEPS, γ, predict)
    # Near a jump rounding errors could choose the side; no bound on the difference would hold.
    assert optimizer.margin > 1e-8
    return expected


def differences(actual, expected):
    """The largest difference anywhere on the trajectory, relative to the largest entry."""

    def difference(a, b):
        assert a.shape == b.shape
        assert a.dtype == b.dtype == np.float64
        return np.max(np.abs(a - b)) / np.max(np.abs(b))

    return {
        "θ": difference(actual.θ, expected.θ),
        "θ_hat": difference(actual.θ_hat, expected.θ_hat),
        **{m: difference(actual.moments[m], expected.moments[m]) for m in expected.moments},
    }


def assert_same(actual, expected):
    found = differences(actual, expected)
    assert all(difference <= 1e-12 for difference in found.values()), found  # NaN is refused too


# --------------------------------------------------------------------------------------------------
# The closed forms
# --------------------------------------------------------------------------------------------------

EACH_CASE = pytest.mark.parametrize("name", CASES)
RATES = {"constant": constant, "stepped": stepped}
HORIZONS = (0, 0.5, 1, 2, 3)


def make_explicit(case, learning_rate, s):
    return explicit(case.named(learning_rate, s=s, **case.options))


def make_drop_in(case, learning_rate, s):
    inner = case.namesake(learning_rate, **case.options)
    return drop_in(xgrad(inner, s, predictor=case.predictor(learning_rate)))


def make_in_place(case, learning_rate, s):
    return drop_in(in_place(case.named(learning_rate, s=s, **case.options)))


FORMS = {"explicit": make_explicit, "drop-in": make_drop_in, "in-place": make_in_place}
EACH_FORM = pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
DEFAULTS = "defaults"
# Without momentum RMSprop remembers its update, which the in-place form has no place for.
CASES_AND_FORMS = [
    (name, form)
    for name, case in CASES.items()
    for form in FORMS
    if form != "in-place" or case.named(case.γ, **case.options).prediction.predictor.in_place
]
WITH_DEFAULTS = [name for name in CASES if "-" not in name]


@functools.cache
def closed_forms(name):
    """All trajectories of one optimizer: by form, rate and horizon, and that of the defaults."""
    case = CASES[name]
    forms = {
        (form, rate, s): make(case, RATES[rate](case.γ)[0], s)
        for form, make in FORMS.items()
        if (name, form) in CASES_AND_FORMS
        for rate in RATES
        for s in HORIZONS
    }
    if name in WITH_DEFAULTS:
        forms[DEFAULTS] = explicit(case.named(case.γ))
    return run_all(forms, case)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("s", HORIZONS, ids="s={}".format)
@pytest.mark.parametrize(("name", "form"), CASES_AND_FORMS)
def test_closed_form_follows_the_paper(name, rate, s, form):
    case = CASES[name]
    expected = run_reference(case.reference(), RATES[rate](case.γ)[1], s, case.predict)
    assert_same(closed_forms(name)[form, rate, s], expected)


@pytest.mark.parametrize("name", WITH_DEFAULTS)
def test_defaults_are_those_of_the_reference(name):
    case = CASES[name]  # s = 1 is a default too
    expected = run_reference(case.paper(), constant(case.γ)[1], s=1)
    assert_same(closed_forms(name)[DEFAULTS], expected)


@pytest.mark.parametrize("argument", ["learning_rate", "s"])
def test_schedules_work_under_strict_promotion(argument):
    schedule = optax.piecewise_constant_schedule(0.1, DROPS)
    lookahead_params, tx = xgrad_optax.adam(**{"learning_rate": 0.1, argument: schedule})
    params = jnp.ones(2)
    lookahead_params(params, tx.init(params))


@EACH_FORM
@pytest.mark.parametrize("name", ["adam", "adam-damped", "sgdm-damped"])
def test_scheduled_horizon_is_read_at_the_number_of_updates(make, name):
    case = CASES[name]

    def horizon(t):
        return 0.05 * t  # a float64; Optax's own schedules divide in float32

    def predict(optimizer, θ, s, γ):
        return case.predict(optimizer, θ, s(optimizer.t), γ)

    actual = run(make(case, case.γ, horizon), case)
    assert_same(actual, run_reference(case.reference(), constant(case.γ)[1], horizon, predict))


# --------------------------------------------------------------------------------------------------
# Predictors that fit every optimizer
# --------------------------------------------------------------------------------------------------


def generic_explicit(inner, s, predictor):
    return explicit(with_weight_prediction(inner, s, predictor=predictor))


def generic_drop_in(inner, s, predictor):
    return drop_in(xgrad(inner, s, predictor=predictor))


GENERIC_FORMS = {"explicit": generic_explicit, "drop-in": generic_drop_in}
GENERIC = {
    "default": (None, reference.last_update, 2),
    "last_update": (predictors.last_update(), reference.last_update, 0.5),
    "zero_gradient": (predictors.zero_gradient(), reference.zero_gradient, 2),
    "zero_gradient-fraction": (predictors.zero_gradient(), reference.zero_gradient, 0.5),
}


@functools.cache
def generic(name):
    """Trajectories of one optimizer under a stepped rate, by form and predictor."""
    case = CASES[name]
    inner = case.namesake(stepped(case.γ)[0], **case.options)
    forms = {
        (form, kind): make(inner, s, predictor)
        for form, make in GENERIC_FORMS.items()
        for kind, (predictor, _, s) in GENERIC.items()
    }
    return run_all(forms, case)


@pytest.mark.parametrize("kind", GENERIC)
@pytest.mark.parametrize("form", GENERIC_FORMS)
@pytest.mark.parametrize("name", ["sgdm-decay", "rmsprop-momentum", "adamw", "radam", "adam3"])
def test_predictors_that_fit_every_optimizer_follow_the_reference(name, kind, form):
    case, (_, predict, s) = CASES[name], GENERIC[kind]
    expected = run_reference(case.reference(), stepped(case.γ)[1], s, predict)
    assert_same(generic(name)[form, kind], expected)


@pytest.mark.parametrize(
    ("predictor", "predict"),
    [
        (CASES["adamw"].predictor(CASES["adamw"].γ), reference.closed_form),
        (predictors.last_update(), reference.last_update),
        (predictors.zero_gradient(), reference.zero_gradient),
    ],
    ids=["closed form", "last_update", "zero_gradient"],
)
@pytest.mark.parametrize("make", GENERIC_FORMS.values(), ids=GENERIC_FORMS)
def test_horizon_in_an_array_follows_the_reference(predictor, predict, make):
    case = CASES["adamw"]
    inner = case.namesake(case.γ, **case.options)
    actual = run(make(inner, jnp.asarray(2.5), predictor), case)
    assert_same(actual, run_reference(case.reference(), constant(case.γ)[1], 2.5, predict))


# --------------------------------------------------------------------------------------------------
# The references themselves, and that the comparison can fail
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", range(NETWORK.batches))
def test_gradient_by_hand_is_that_of_jax(t):
    θ = np.random.default_rng(t).normal(size=NETWORK.θ.shape)
    by_jax = NETWORK.flatten(gradient(NETWORK.unflatten(θ), *NETWORK.minibatch(t)))
    np.testing.assert_allclose(NETWORK.gradient(θ, t), by_jax, rtol=0, atol=1e-12)


def test_zero_gradient_of_sgdm_is_nesterov():
    # Optax's Nesterov holds the look-ahead points: x_t = θ_t - γ μ v_t = θ̂_{t+1}.
    case = CASES["sgdm"]
    nesterov = optax.sgd(case.γ, **case.options, nesterov=True)
    actual = run((nesterov, lambda params, state: (params, params)), case)
    γ = constant(case.γ)[1]
    expected = run_reference(case.reference(), γ, 1, reference.zero_gradient)
    assert_same(actual, expected._replace(θ=expected.θ_hat))


def test_rollout_leaves_the_optimizer_alone():
    optimizer = reference.Adam()
    optimizer.step(np.ones(2), np.zeros(2), 0.1)
    before = {name: np.copy(value) for name, value in vars(optimizer).items()}
    reference.zero_gradient(optimizer, np.zeros(2), 2.5, lambda t: 0.1)
    np.testing.assert_equal(vars(optimizer), before)


def rate_of_the_step_before(optimizer, θ, s, γ):
    return θ + s * optimizer.next_update(γ(optimizer.t - 1))


def horizon_too_long(optimizer, θ, s, γ):
    return reference.closed_form(optimizer, θ, s + 0.1, γ)


def no_prediction(optimizer, θ, s, γ):
    del optimizer, s, γ
    return θ


def no_bias_correction(optimizer, θ, s, γ):
    optimizer.debiased = lambda moment, β: moment
    θ_hat = reference.closed_form(optimizer, θ, s, γ)
    del optimizer.debiased
    return θ_hat


def decay_predicted(optimizer, θ, s, γ):
    return reference.closed_form(optimizer, θ, s, γ) - s * γ(optimizer.t) * optimizer.λ * θ


def damped_too_far(optimizer, θ, s, γ):
    return reference.damped(optimizer, θ, s + 0.1, γ)


def damped_without_bias_correction(optimizer, θ, s, γ):
    optimizer.kept, optimizer.held = lambda β, k: β**k, lambda β, k: 1
    θ_hat = reference.damped(optimizer, θ, s, γ)
    del optimizer.kept, optimizer.held
    return θ_hat


DEBIASED = {"adam", "adamw", "nadam", "yogi", "adabelief", "adam3"}
WRONG = {
    horizon_too_long: set(LINEAR_CASES),
    no_prediction: set(CASES),
    rate_of_the_step_before: {name for name in LINEAR_CASES if "rmsprop" not in name},
    no_bias_correction: DEBIASED,
    decay_predicted: {"adamw", "lion"},
    reference.closed_form: set(DAMPED_CASES),
    damped_too_far: set(DAMPED_CASES),
    damped_without_bias_correction: {f"{name}-damped" for name in DEBIASED & set(DAMPED)},
}


@pytest.mark.parametrize("name", CASES)
def test_comparison_tells_wrong_predictions_apart(name):
    case, γ = CASES[name], stepped(CASES[name].γ)[1]
    actual = closed_forms(name)["explicit", "stepped", 1]
    for wrong in (wrong for wrong, names in WRONG.items() if name in names):
        expected = run_reference(case.reference(), γ, 1, wrong)
        found = differences(actual, expected)
        # Lion's θ moves by signs, which may all stay the same; θ̂ never does.
        assert found["θ_hat"] > 1e-6, (wrong.__name__, found)
        with pytest.raises(AssertionError):
            assert_same(actual, expected)


def test_comparison_tells_decay_at_the_prediction_apart():
    case = CASES["sgdm-decay"]
    γ = constant(case.γ)[1]
    actual = closed_forms("sgdm-decay")["explicit", "constant", 1]

    def gradient_with_decay(θ_hat, t):
        return NETWORK.gradient(θ_hat, t) + case.options["weight_decay"] * θ_hat

    expected = reference.algorithm_1(
        reference.SGDM(case.options["momentum"]), gradient_with_decay, NETWORK.θ, 1, STEPS, γ
    )
    assert differences(actual, expected)["θ_hat"] > 1e-6
