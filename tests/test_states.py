"""What a state is: arrays and plain values, to be kept, compared, averaged and exported."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xgrad_optax
import xgrad_optax.export
from tests.optimizers_under_test import NAMED
from xgrad_optax import (
    base_params,
    in_place,
    lookahead_params,
    predictors,
    with_weight_prediction,
    xgrad,
)

PARAMS = {"w": jnp.ones(3), "b": jnp.zeros(2)}
RATE = 0.1


def cosine(start=RATE):
    """A schedule made anew at each call, as a configuration makes it."""
    return optax.cosine_decay_schedule(start, 10)


def explicit(s=1, predictor=None, rate=RATE):
    return with_weight_prediction(optax.sgd(rate), s, predictor=predictor).tx


MAKERS = {
    **{name.name: functools.partial(name.predicted, RATE, 1) for name in NAMED},
    "named, scheduled rate": lambda: xgrad_optax.adamw(cosine()),
    "named, scheduled s": lambda: xgrad_optax.adamw(RATE, s=cosine(2.0)),
    "named, both": lambda: xgrad_optax.sgdm(cosine(), s=cosine(2.0)),
    "explicit": explicit,
    "explicit, scheduled s": lambda: explicit(cosine(2.0)),
    "explicit, low memory": lambda: explicit(predictor=predictors.last_update(jnp.bfloat16)),
    "drop-in": lambda: xgrad(optax.adamw(cosine())),
    "drop-in, scheduled s": lambda: xgrad(optax.adamw(RATE), cosine(2.0)),
    "drop-in, rollout": lambda: xgrad(optax.sgd(RATE), predictor=predictors.zero_gradient()),
    "in place": lambda: in_place(xgrad_optax.adamw(RATE)),
    "in place, scheduled": lambda: in_place(xgrad_optax.adamw(cosine(), s=cosine(2.0))),
}
EACH = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def after(tx, steps=2, params=PARAMS, state=None):
    state = tx.init(params) if state is None else state
    for _ in range(steps):
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@EACH
def test_state_is_arrays_and_plain_values(make):
    """No function is part of a state: it is pickled, compared, averaged and compiled for once."""
    _, state = after(make())
    copy = pickle.loads(pickle.dumps(state))
    assert jax.tree.structure(copy) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, copy, state)

    _, rebuilt = after(make(), steps=1)
    mean = jax.tree.map(lambda x, y: (x + y) / 2, state, rebuilt)
    assert jax.tree.structure(mean) == jax.tree.structure(state)

    traces = []
    step = jax.jit(lambda state: traces.append(1) or state)
    step(state), step(rebuilt)
    assert len(traces) == 1


@EACH
def test_step_with_the_state_is_exported(make):
    tx = make()
    params, state = after(tx)

    def step(params, state):
        updates, state = tx.update(params, state, params)
        return optax.apply_updates(params, updates), state

    exported = jax.export.export(jax.jit(step))(params, state)
    read = jax.export.deserialize(exported.serialize())
    jax.tree.map(
        np.testing.assert_array_equal, read.call(params, state), jax.jit(step)(params, state)
    )


def test_export_refuses_a_rollout_with_the_way_out():
    state = explicit(predictor=predictors.zero_gradient()).init(PARAMS)
    exported = jax.export.export(jax.jit(lambda state: state.steps))(state)
    with pytest.raises(ValueError, match=r"zero_gradient\(\).*drop-in form"):
        exported.serialize()


def test_pickle_refuses_a_rollout_with_the_way_out():
    state = explicit(predictor=predictors.zero_gradient()).init(PARAMS)
    with pytest.raises(pickle.PicklingError, match="use last_update"):
        pickle.dumps(state)


# --- a transform that is rebuilt counts from its next update ---


def ahead_explicit(params, state):
    predicted = lookahead_params(params, state)
    return jax.tree.map(lambda q, p: q - p, predicted, params)


def ahead_of_base(params, state):
    return jax.tree.map(lambda p, b: p - b, params, base_params(params, state))


FORMS = {
    "explicit": (lambda s: explicit(s), ahead_explicit),
    "drop-in": (lambda s: xgrad(optax.sgd(RATE), s), ahead_of_base),
    "named": (lambda s: xgrad_optax.sgdm(RATE, s=s, momentum=0.0).tx, ahead_explicit),
    "in place": (lambda s: in_place(xgrad_optax.sgdm(RATE, s=s, momentum=0.0)), ahead_of_base),
    "rollout": (
        lambda s: (
            with_weight_prediction(
                optax.sgd(RATE, momentum=0.5), s, predictor=predictors.zero_gradient()
            ).tx
        ),
        None,
    ),
}
HORIZONS = {
    "number": lambda s: s,
    "array": lambda s: jnp.asarray(s),
    "schedule": optax.constant_schedule,
}


@pytest.mark.parametrize("form", [name for name in FORMS if name != "rollout"])
@pytest.mark.parametrize("new", HORIZONS)
@pytest.mark.parametrize("old", HORIZONS)
@pytest.mark.parametrize(("s", "new_s"), [(1.0, 3.0), (2.0, 0.0), (0.0, 2.0)])
def test_new_horizon_counts_from_the_next_update(form, old, new, s, new_s):
    make, ahead = FORMS[form]
    params, state = after(make(HORIZONS[old](s)))
    for leaf in jax.tree.leaves(ahead(params, state)):
        np.testing.assert_allclose(leaf, -RATE * s, rtol=1e-5)
    before = params if ahead is ahead_explicit else base_params(params, state)
    params, state = after(make(HORIZONS[new](new_s)), 1, params, state)
    for leaf in jax.tree.leaves(ahead(params, state)):
        np.testing.assert_allclose(leaf, -RATE * new_s, rtol=1e-5, atol=1e-7)
    base = params if ahead is ahead_explicit else base_params(params, state)
    jax.tree.map(lambda b, old: np.testing.assert_allclose(b - old, -RATE, rtol=1e-5), base, before)


@pytest.mark.parametrize("form", ["explicit", "in place"])
def test_new_learning_rate_counts_from_the_next_update(form):
    """The schedule has run down to nothing; training goes on at a constant rate."""

    def make(rate):
        prediction = xgrad_optax.adam(rate, s=1)
        return prediction.tx if form == "explicit" else in_place(prediction)

    ahead = ahead_explicit if form == "explicit" else ahead_of_base
    params, state = after(make(optax.linear_schedule(0.1, 0.0, 3)), 4)
    for leaf in jax.tree.leaves(ahead(params, state)):
        np.testing.assert_allclose(leaf, 0.0, atol=1e-7)
    params, state = after(make(optax.constant_schedule(0.05)), 1, params, state)
    for leaf in jax.tree.leaves(ahead(params, state)):
        np.testing.assert_allclose(leaf, -0.05, rtol=1e-3)


def test_rebuilt_rollout_is_the_same_transform_or_another_one():
    make, _ = FORMS["rollout"]
    state = make(1.0).init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(make(1.0).init(PARAMS))
    assert jax.tree.structure(state) != jax.tree.structure(make(2.0).init(PARAMS))

    def scheduled(rate):
        return with_weight_prediction(
            optax.adamw(optax.linear_schedule(rate, 0.0, 10)), predictor=predictors.zero_gradient()
        ).tx.init(PARAMS)

    assert jax.tree.structure(scheduled(0.1)) == jax.tree.structure(scheduled(0.1))
    assert jax.tree.structure(scheduled(0.1)) != jax.tree.structure(scheduled(0.2))


def test_new_rollout_counts_from_the_next_update():
    def make(rate):
        return with_weight_prediction(
            optax.sgd(rate, momentum=0.5), predictor=predictors.zero_gradient()
        ).tx

    params, state = after(make(0.1), 1)
    params, state = after(make(0.3), 1, params, state)
    np.testing.assert_allclose(ahead_explicit(params, state)["w"], -0.3 * 0.5 * 1.5, rtol=1e-5)


def test_rollout_of_a_transform_from_traced_values_stays_within_the_trace():
    @jax.jit
    def ahead(rate):
        params, state = after(explicit(predictor=predictors.zero_gradient(), rate=rate))
        return ahead_explicit(params, state)

    np.testing.assert_array_equal(ahead(0.1)["w"], 0.0)  # plain SGD has no momentum to roll out


@pytest.mark.parametrize("key", ["count", "learning_rate", "s"])
def test_names_that_users_look_up_in_a_state_are_the_inner_optimizer_s(key):
    """``optax.tree.get(opt_state, "learning_rate")`` is Optax's own idiom."""
    tx = optax.inject_hyperparams(xgrad_optax.sgdm)(learning_rate=RATE, s=1.0)
    state = tx.init(PARAMS)
    np.testing.assert_allclose(optax.tree.get(state, key), {"count": 0, "s": 1}.get(key, RATE))


def test_schedule_of_a_traced_value_leaves_no_tracer():
    """A state that is made under jit with a schedule that closes over an argument can leave it."""

    @jax.jit
    def start(peak):
        tx = xgrad_optax.adam(lambda count: peak * (1.0 + count), s=lambda count: peak + count).tx
        return tx.init(PARAMS)

    state = start(0.5)
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(state))
    assert jax.tree.structure(state) == jax.tree.structure(
        xgrad_optax.adam(cosine(), s=cosine()).tx.init(PARAMS)
    )


def test_transform_rebuilt_under_cond_goes_on_with_the_state():
    def step(flag, params, state):
        def with_rate(rate, s):
            return lambda: after(xgrad(optax.sgd(cosine(rate)), s), 1, params, state)

        return jax.lax.cond(flag, with_rate(0.1, optax.constant_schedule(1.0)), with_rate(0.2, 3.0))

    params, state = after(xgrad(optax.sgd(cosine())), 0)
    for flag, ahead in ((True, -0.1), (False, -0.2 * 3)):
        moved = jax.jit(step)(flag, params, state)
        np.testing.assert_allclose(ahead_of_base(*moved)["w"], ahead, rtol=1e-5)


# --- numbers, injected values and schedules make the same structure ---


@pytest.mark.parametrize("form", ["explicit", "drop-in"])
def test_structure_does_not_depend_on_how_the_horizon_is_given(form):
    """What Optax's own contract test asks of ``inject_hyperparams``: equal inner states."""

    def factory(learning_rate, s):
        inner = optax.sgd(learning_rate, momentum=0.9)
        return xgrad(inner, s) if form == "drop-in" else with_weight_prediction(inner, s).tx

    plain, injected = factory(RATE, 1.0), optax.inject_hyperparams(factory)(RATE, 1.0)
    scheduled = factory(RATE, optax.constant_schedule(1.0))
    states = [after(plain)[1], after(injected)[1].inner_state, after(scheduled)[1]]
    for state in states[1:]:
        assert jax.tree.structure(state) == jax.tree.structure(states[0])
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), state, states[0])


# --- parameters of other kinds ---

LOOPS = {
    "explicit": lambda: with_weight_prediction(optax.sgd(RATE, momentum=0.9), 1),
    "named": lambda: xgrad_optax.sgdm(RATE),
    "drop-in": lambda: xgrad(optax.sgd(RATE, momentum=0.9), 1),
    "in place": lambda: in_place(xgrad_optax.sgdm(RATE)),
}
EACH_LOOP = pytest.mark.parametrize("make", LOOPS.values(), ids=LOOPS)


def trained(tx, params, steps=3):
    state = tx.init(params)
    for _ in range(steps):
        held = params
        if hasattr(tx, "lookahead_params"):
            held = tx.lookahead_params(params, state)
        updates, state = tx.update(jax.tree.map(lambda p: 2 * p, held), state, params)
        params = optax.apply_updates(params, updates)
    return params


@EACH_LOOP
@pytest.mark.parametrize("kind", [float, np.float64, np.float32, np.array], ids=str)
def test_numbers_and_numpy_arrays_are_trained_as_jax_arrays_are(make, kind):
    params = {"w": kind(10.0), "v": np.arange(3.0)}
    expected = trained(make(), jax.tree.map(jnp.asarray, params))
    with jax.numpy_dtype_promotion("standard"):  # as plain Optax needs it for numbers
        actual = trained(make(), params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), actual, expected)


@EACH_LOOP
def test_leaves_without_a_gradient_stay_where_they_are(make):
    """Equinox passes ``None`` for leaves that are frozen although the state was made for them."""
    params = {"trained": jnp.ones(2), "frozen": jnp.ones(3), "no_array": None}
    tx = make()
    state = tx.init(params)
    for _ in range(3):
        grads = {"trained": params["trained"], "frozen": None, "no_array": None}
        updates, state = tx.update(grads, state, params)
        assert updates["frozen"] is None
        params = params | {"trained": params["trained"] + updates["trained"]}
    point = lookahead_params if hasattr(tx, "lookahead_params") else base_params
    found = point(params, state)
    np.testing.assert_array_equal(found["frozen"], params["frozen"])
    assert np.all(np.abs(found["trained"] - params["trained"]) > 0.01)


def test_memory_in_a_real_dtype_leaves_complex_parameters_alone():
    params = {"real": jnp.ones(2), "complex": jnp.ones(2, jnp.complex64)}
    tx = explicit(predictor=predictors.last_update(jnp.bfloat16))
    memory = tx.init(params).memory
    assert (memory["real"].dtype, memory["complex"].dtype) == (jnp.bfloat16, jnp.complex64)


@EACH_LOOP
def test_init_takes_shapes(make):
    shapes = jax.eval_shape(lambda: PARAMS)
    assert jax.tree.structure(make().init(shapes)) == jax.tree.structure(make().init(PARAMS))


# --- a WeightPrediction where a transform is expected ---


@pytest.mark.parametrize(
    "around",
    [
        lambda tx: optax.chain(optax.clip(10.0), tx),
        lambda tx: optax.MultiSteps(tx, 1),
        lambda tx: optax.masked(tx, {"w": True, "b": True}),
        lambda tx: optax.partition({"all": tx}, {"w": "all", "b": "all"}),
        lambda tx: optax.apply_if_finite(tx, 1),
    ],
    ids=["chain", "MultiSteps", "masked", "partition", "apply_if_finite"],
)
def test_named_optimizer_stands_for_its_transform(around):
    named = xgrad_optax.sgdm(RATE)
    with jax.numpy_dtype_promotion("standard"):  # MultiSteps needs it
        (params, state), (_, expected) = after(around(named)), after(around(named.tx))
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    np.testing.assert_allclose(ahead_explicit(params, state)["w"], -RATE * 1.9, rtol=1e-5)


def test_injected_factory_may_return_a_named_optimizer():
    params, state = after(optax.inject_hyperparams(xgrad_optax.sgdm)(learning_rate=RATE))
    np.testing.assert_allclose(ahead_explicit(params, state)["w"], -RATE * 1.9, rtol=1e-5)


def test_line_searches_are_refused():
    for make in (with_weight_prediction, xgrad):
        made = make(optax.lbfgs(), 1)
        with pytest.raises(ValueError, match="searches along a line"):
            getattr(made, "tx", made).init(PARAMS)
        made = make(optax.lbfgs(), 0)
        getattr(made, "tx", made).init(PARAMS)
