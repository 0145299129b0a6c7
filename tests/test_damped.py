"""The damped closed forms: what ``zero_gradient()`` predicts, without rolling anything out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xgrad_optax
from tests.compilation import quick_compilation
from xgrad_optax import diagnostics, predictors, transforms, with_weight_prediction

RATE, SIZE = 0.1, 24
BETAS = {"b1": 0.8, "b2": 0.95}
HORIZONS = (0.5, 1, 2, 2.5, 5, 17, 40)
UPDATES = (1, 2, 12)  # how many before the prediction


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def sgdm(nesterov=False, momentum=0.9):
    return (
        optax.sgd(RATE, momentum=momentum, nesterov=nesterov),
        predictors.sgdm(RATE, momentum, damped=True, nesterov=nesterov),
    )


def rmsprop(nesterov=False):
    return (
        optax.rmsprop(RATE, momentum=0.8, nesterov=nesterov),
        predictors.rmsprop(0.8, damped=True, nesterov=nesterov),
    )


def adam(nesterov=False, **options):
    options = {**BETAS, "eps": 0.0, **options}
    return (
        optax.adam(RATE, **options, nesterov=nesterov),
        predictors.adam(RATE, **options, damped=True, nesterov=nesterov),
    )


def yogi(**options):
    options = {**BETAS, "eps": 0.0, **options}
    return optax.yogi(RATE, **options), predictors.yogi(RATE, **options, damped=True)


def adabelief(nesterov=False):
    return (
        optax.adabelief(RATE, **BETAS, nesterov=nesterov),
        predictors.adabelief(RATE, **BETAS, damped=True, nesterov=nesterov),
    )


def adam3():
    return transforms.adam3(RATE, **BETAS), predictors.adam3(RATE, **BETAS, damped=True)


def after(tx, updates=UPDATES[-1]):
    """The state after some updates along random gradients."""
    params = jnp.zeros(SIZE)
    state = tx.init(params)
    for gradient in np.random.default_rng(0).normal(0.3, 1.0, (updates, SIZE)):
        _, state = tx.update(jnp.asarray(gradient), state, params)
    return state


def ahead(inner, predictor, s, updates=UPDATES[-1]):
    """θ̂ - θ, at θ = 0."""
    lookahead_params, tx = with_weight_prediction(inner, s, predictor=predictor)
    return lookahead_params(jnp.zeros(SIZE), after(tx, updates))


@functools.cache
def both(make, updates, **options):
    """What is predicted with each of ``HORIZONS``, and what the rollout says."""
    inner, damped = make(**options)
    state = after(with_weight_prediction(inner, 0, predictor=damped).tx, updates)
    roll = with_weight_prediction(inner, 0, predictor=predictors.zero_gradient())
    rolled = after(roll.tx, updates)
    params = jnp.zeros(SIZE)

    def predict(state, s):
        return state.rule.predictor.predict(getattr(state, "memory", ()), state[0], params, s)

    with quick_compilation():
        found = jax.jit(lambda: [(predict(state, s), predict(rolled, s)) for s in HORIZONS])()
    return [(s, *map(np.asarray, pair)) for s, pair in zip(HORIZONS, found, strict=True)]


# --------------------------------------------------------------------------------------------------
# Against the rollout
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("updates", UPDATES)
@pytest.mark.parametrize("nesterov", [False, True], ids=["heavy ball", "nesterov"])
@pytest.mark.parametrize("make", [sgdm, rmsprop, adam], ids=lambda make: make.__name__)
def test_it_is_the_rollout(make, nesterov, updates):
    for s, found, expected in both(make, updates, nesterov=nesterov):
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=f"s = {s}")


@pytest.mark.parametrize("updates", UPDATES)
def test_yogi_s_is_the_rollout(updates):
    for s, found, expected in both(yogi, updates):
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=f"s = {s}")


@pytest.mark.parametrize("momentum", [0.0, 0.5, 1 - 1e-9, 1.0])
def test_momentum_may_be_anything_up_to_one(momentum):
    for s, found, expected in both(sgdm, 12, momentum=momentum):
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=f"s = {s}")


def test_without_a_first_moment_nothing_is_predicted():
    for _, found, _ in both(adam, 12, b1=0.0):
        np.testing.assert_array_equal(found, 0.0)


def last_second_moment(make, s):
    """v̂ of the last of the predicted steps, the smallest, from 12 updates."""
    b2, t, k = BETAS["b2"], 12, np.ceil(s)
    state = after(with_weight_prediction(make()[0], 0).tx).inner_state[0]
    v = np.asarray(state.nu) * (b2**k if make is adam else 1.0)
    return v / (1 - b2 ** (t + k))


@pytest.mark.parametrize("make", [adam, yogi], ids=lambda make: make.__name__)
@pytest.mark.parametrize("eps", [1e-8, 1e-5])
def test_error_of_a_step_is_below_eps_over_the_root_of_its_second_moment(make, eps):
    for s, found, expected in both(make, 12, eps=eps):
        error = np.abs(found / expected - 1)
        assert np.all(error < eps / np.sqrt(last_second_moment(make, s))), s
        assert np.max(error) > 1e-3 * eps, s  # it is there, and so is ε


def test_error_of_a_step_is_below_half_of_eps_root_over_its_second_moment():
    for s, found, expected in both(adam, 12, eps_root=1e-6):
        error = np.abs(found / expected - 1)
        assert np.all(error < 0.5e-6 / last_second_moment(adam, s)), s
        assert np.max(error) > 1e-9, s


@pytest.mark.parametrize("make", [adabelief, adam3], ids=lambda make: make.__name__)
def test_second_moment_that_is_held_stays_near_the_rollout(make):
    """Both are several times nearer than the linear form, which goes s·d."""
    inner, damped = make()
    linear = type(damped).__mro__[1](damped.hyperparameters)
    for s, found, expected in both(make, 12):
        if s > 1:
            distance = np.linalg.norm(found - expected)
            assert distance < 0.25 * np.linalg.norm(expected), s
            undamped = ahead(inner, linear, s)
            assert distance < 0.4 * np.linalg.norm(undamped - expected), s


def test_the_next_step_s_rate_serves_all_steps():
    schedule = optax.piecewise_constant_schedule(RATE, {2: 0.5, 3: 0.0})
    inner = optax.sgd(schedule, momentum=0.9)
    predictor = predictors.sgdm(schedule, momentum=0.9, damped=True)
    found = ahead(inner, predictor, 3, updates=2)
    fixed = predictors.sgdm(RATE * 0.5, momentum=0.9, damped=True)
    np.testing.assert_allclose(found, ahead(inner, fixed, 3, updates=2), rtol=1e-6)


# --------------------------------------------------------------------------------------------------
# Numbers, schedules, arrays
# --------------------------------------------------------------------------------------------------

NAMED = {
    "sgdm": functools.partial(xgrad_optax.sgdm, damped=True),
    "rmsprop": functools.partial(xgrad_optax.rmsprop, damped=True, momentum=0.8),
    "adam": functools.partial(xgrad_optax.adam, damped=True),
    "adamw": functools.partial(xgrad_optax.adamw, damped=True),
    "nadam": functools.partial(xgrad_optax.nadam, damped=True),
    "yogi": functools.partial(xgrad_optax.yogi, damped=True),
    "adabelief": functools.partial(xgrad_optax.adabelief, damped=True),
    "adam3": functools.partial(xgrad_optax.adam3, damped=True),
}
EACH_NAMED = pytest.mark.parametrize("make", NAMED.values(), ids=NAMED)
HOW = {
    "array": lambda make, s: make(RATE, s=jnp.asarray(s)).tx,
    "schedule": lambda make, s: make(RATE, s=lambda count: s + 0 * count).tx,
    "injected": lambda make, s: optax.inject_hyperparams(make)(learning_rate=RATE, s=s),
}


@pytest.mark.parametrize("how", HOW)
@EACH_NAMED
def test_horizon_is_the_same_however_it_is_given(make, how):
    params = jnp.zeros(SIZE)
    for s in (0.0, 0.25, 1.0, 4.0, 9.5):
        prediction = make(RATE, s=s)
        expected = prediction.lookahead_params(params, after(prediction.tx))
        with jax.numpy_dtype_promotion("standard"):  # `inject_hyperparams` needs it
            state = after(HOW[how](make, s))
        found = xgrad_optax.lookahead_params(params, state)
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=f"s = {s}")


def test_injected_momentum_damps():
    def make(momentum):
        return xgrad_optax.sgdm(RATE, s=3, momentum=momentum, damped=True)

    with jax.numpy_dtype_promotion("standard"):
        state = after(optax.inject_hyperparams(make)(momentum=0.5))
    params = jnp.zeros(SIZE)
    expected = make(0.5).lookahead_params(params, after(make(0.5).tx))
    np.testing.assert_allclose(xgrad_optax.lookahead_params(params, state), expected, rtol=1e-6)


@EACH_NAMED
def test_nothing_loops_where_the_horizon_is_a_number(make):
    def loops(s):
        prediction = make(RATE, s=s)
        predict = jax.jit(prediction.lookahead_params)
        return "while" in predict.lower(jnp.zeros(SIZE), after(prediction.tx)).compile().as_text()

    assert not loops(5)
    geometric = make in (NAMED["sgdm"], NAMED["rmsprop"])
    assert loops(jnp.asarray(5.0)) != geometric  # Adam's sum has no shorter form


def test_far_horizons_stay_finite_in_float32():
    with jax.enable_x64(False):
        for make in NAMED.values():
            near, far = (
                np.asarray(p.lookahead_params(jnp.zeros(SIZE), after(p.tx)))
                for p in (make(RATE, s=200), make(RATE, s=5000))
            )
            np.testing.assert_allclose(far, near, rtol=1e-4)


def test_diagnostics_keep_one_prediction_for_each_horizon():
    """What is predicted for h steps is not h times what is predicted for one."""
    measure = diagnostics.prediction_error(horizons=(1, 3))
    _, tx = xgrad_optax.sgdm(RATE, damped=True)
    params = jnp.zeros(SIZE)
    state = tx.init(params)
    measured = measure.init(params, state)
    gradients = [jnp.ones(SIZE)] + [jnp.zeros(SIZE)] * 6
    for gradient in gradients:
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        measured = measure.update(measured, params, state)
    # Without further gradients it is right at every horizon.
    error = measure.summary(measured).overall.relative_error
    np.testing.assert_allclose(error, 0, atol=1e-12)


# --------------------------------------------------------------------------------------------------
# Switching it on and off, and what is refused
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["explicit", "in place"])
@pytest.mark.parametrize("first", [False, True], ids=["on", "off"])
def test_damping_is_switched_from_the_next_update_on(form, first):
    """With the same state: the closed forms keep nothing of their own."""

    def make(damped):
        prediction = xgrad_optax.sgdm(RATE, s=3, damped=damped)
        return prediction.tx if form == "explicit" else xgrad_optax.in_place(prediction)

    def length(params, state):
        """How many steps like the next one the prediction is."""
        point = xgrad_optax.lookahead_params if form == "explicit" else xgrad_optax.base_params
        moved = np.abs(np.asarray(point(params, state) - params))
        return np.mean(moved / (RATE * np.asarray(optax.tree.get(state, "trace"))))

    lengths = {False: 3.0, True: 0.9 + 0.81 + 0.729}
    params = jnp.zeros(SIZE)
    state = make(first).init(params)
    for damped in (first, first, not first):
        updates, state = make(damped).update(jnp.ones(SIZE), state, params)
        params = params + updates
        np.testing.assert_allclose(length(params, state), lengths[damped], rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: predictors.sgdm(RATE, damped=True), r"sgdm\(learning_rate, momentum=0.9, damped"),
        (lambda: predictors.rmsprop(damped=True), r"momentum = None.*rmsprop\(momentum=0.9"),
        (lambda: xgrad_optax.rmsprop(RATE, damped=True), "give the inner optimizer one"),
        (lambda: xgrad_optax.adam(RATE, b2=0.0, damped=True), "needs b2 > 0, got b2 = 0"),
    ],
    ids=["sgdm", "rmsprop", "named rmsprop", "b2"],
)
def test_what_is_missing_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("value", [0.9, None, 1])
def test_damped_is_a_bool(value):
    with pytest.raises(TypeError, match=f"`damped` must be True or False, got {value!r}"):
        xgrad_optax.sgdm(RATE, damped=value)
