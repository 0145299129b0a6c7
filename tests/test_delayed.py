"""What is `delayed`'s own: when nothing is applied, what its state holds, nesting, refusals."""

import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import xgrad_optax
from tests.optimizers_under_test import relaxed
from xgrad_optax import (
    DelayedState,
    base_params,
    delayed,
    in_place,
    lookahead_params,
    pending_specs,
    predictors,
    spread_pending,
    with_weight_prediction,
    xgrad,
    zero_gradient,
)

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}
DELAY = 2


def gradient(params, t=0):
    return jax.tree.map(lambda p: jnp.cos(p + t), params)


def adamw(s=3.0):
    return xgrad_optax.adamw(0.1, s=s)


def advance(pair, params, state, steps, start=0):
    """Trains; ``pair`` may be a transform that keeps the parameters ahead."""
    point = getattr(pair, "lookahead_params", lambda params, state: params)
    for t in range(start, start + steps):
        updates, state = pair.update(gradient(point(params, state), t), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_close(one, other, rtol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol), one, other)


# --------------------------------------------------------------------------------------------------
# When which gradient is applied
# --------------------------------------------------------------------------------------------------


def test_while_the_queue_fills_nothing_moves_and_the_inner_state_is_untouched():
    pair = delayed(adamw(), DELAY)
    zeros = {"w": jnp.array([[-0.0, 0.0, 1.0]]), "b": jnp.array([-0.0])}
    state = pair.init(zeros)
    params, later = advance(pair, zeros, state, DELAY)
    assert_equal(jax.tree.map(jnp.signbit, params), jax.tree.map(jnp.signbit, zeros))
    assert_equal((params, later.inner_state), (zeros, state.inner_state))
    assert_equal(pair.lookahead_params(params, later), params)
    _, later = advance(pair, params, later, 1)
    assert int(optax.tree.get(later, "count", filtering=lambda path, _: "mu" not in str(path))) == 1


@pytest.mark.parametrize("in_flight", [False, True])
def test_without_delay_it_is_the_prediction_itself(in_flight):
    prediction = adamw()
    assert delayed(prediction, 0, in_flight=in_flight) is prediction
    plain = xgrad(optax.adam(0.1))
    assert delayed(plain, np.int64(0)) is plain


def test_without_delay_gradients_are_reduced_at_once():
    halved = delayed(adamw(), 0, reduce=lambda grads: jax.tree.map(lambda g: g / 2, grads))
    grads, state = gradient(PARAMS), adamw().init(PARAMS)
    expected = adamw().update(jax.tree.map(lambda g: g / 2, grads), state, PARAMS)
    assert_equal(halved.update(grads, state, PARAMS), expected)
    assert_equal(jax.tree.leaves(halved.init(PARAMS)), jax.tree.leaves(state))


def test_only_the_oldest_gradients_are_reduced():
    """Four workers on one device, each with its own queue, against the mean gradients, late."""
    shifts = jnp.arange(4.0)

    def reduce(grads):
        return jax.lax.pmean(grads, "workers")

    together, alone = delayed(adamw(), DELAY, reduce=reduce), delayed(adamw(), DELAY)
    state = jax.vmap(together.init, in_axes=None, axis_size=4)(PARAMS)
    params = jax.tree.map(lambda p: jnp.stack([p] * 4), PARAMS)
    expected, expected_state = PARAMS, alone.init(PARAMS)

    def step(params, state, shift, t):
        grads = gradient(together.lookahead_params(params, state), shift + t)
        updates, state = together.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    workers = jax.jit(jax.vmap(step, axis_name="workers", in_axes=(0, 0, 0, None)))
    for t in range(6):
        params, state = workers(params, state, shifts, jnp.float32(t))
        point = alone.lookahead_params(expected, expected_state)
        grads = jax.vmap(gradient, in_axes=(None, 0))(point, shifts + t)
        mean = jax.tree.map(lambda g: g.mean(0), grads)
        updates, expected_state = alone.update(mean, expected_state, expected)
        expected = optax.apply_updates(expected, updates)
        for worker in range(4):
            assert_close(jax.tree.map(lambda p, w=worker: p[w], params), expected, 1e-5)
    assert not np.allclose(state.pending["b"][0], state.pending["b"][1])


def test_what_is_in_flight_is_predicted_from_the_worker_s_own_gradients():
    """One worker knows everything: its prediction is where the next gradients will take it."""
    pair = delayed(adamw(DELAY), DELAY, in_flight=True)
    params, state = advance(pair, PARAMS, pair.init(PARAMS), 5)
    predicted = pair.lookahead_params(params, state)
    for _ in range(DELAY):
        updates, state = pair.update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
    assert_close(predicted, params)


def test_prediction_in_flight_does_not_communicate():
    def reduce(grads):
        raise AssertionError("a reduction in the prediction")

    pair = delayed(adamw(DELAY), DELAY, reduce=reduce, in_flight=True)
    state = pair.init(PARAMS)._replace(
        memory=delayed(adamw(), 1, in_flight=True).init(PARAMS).memory
    )
    jax.eval_shape(pair.lookahead_params, PARAMS, state)


# --------------------------------------------------------------------------------------------------
# The state
# --------------------------------------------------------------------------------------------------


def test_position_goes_round_and_never_overflows():
    tx = delayed(optax.sgd(1.0), 3)
    state, positions = tx.init(jnp.float32(0)), []
    for _ in range(9):
        _, state = tx.update(jnp.float32(1), state)
        positions.append(int(state.position))
    assert positions == [1, 2, 3, 4, 5, 6, 3, 4, 5]
    assert state.position.dtype == jnp.int32


def test_types_stay_over_steps_for_dtypes_numbers_and_leaves_without_gradients():
    params = {
        "half": jnp.ones(2, jnp.bfloat16),
        "complex": jnp.ones(2, jnp.complex64),
        "frozen": jnp.ones(2),
        "nothing": None,
    }
    grads = {**jax.tree.map(jnp.ones_like, params), "frozen": None}
    tx = delayed(optax.sgd(0.5), DELAY)
    state = tx.init(params)
    for _ in range(DELAY + 1):
        updates, new = tx.update(grads, state, params)
        assert jax.tree.map(jnp.asarray, new).pending["half"].dtype == jnp.bfloat16
        assert jax.tree.structure(new) == jax.tree.structure(state)
        state = new
    assert updates["frozen"] is None
    np.testing.assert_array_equal(updates["half"].astype(jnp.float32), [-0.5, -0.5])
    np.testing.assert_array_equal(updates["complex"], [-0.5, -0.5])


def test_init_takes_shapes_and_the_state_pickles():
    pair = delayed(adamw(), DELAY)
    state = pair.init(PARAMS)
    shapes = jax.eval_shape(pair.init, PARAMS)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, state)
    _, state = advance(pair, PARAMS, state, 3)
    assert_equal(pickle.loads(pickle.dumps(state)), state)


def test_a_run_goes_on_from_the_prediction_s_own_state_with_nothing_in_flight():
    prediction, late = adamw(), delayed(adamw(), DELAY)
    params, state = advance(prediction, PARAMS, prediction.init(PARAMS), 2)
    with pytest.raises(ValueError, match=re.escape("_replace(inner_state=opt_state)")):
        late.update(gradient(params), state, params)
    resumed = late.init(params)._replace(inner_state=state)
    assert_equal(late.lookahead_params(params, resumed), prediction.lookahead_params(params, state))
    _, resumed = advance(late, params, resumed, DELAY)
    assert_equal(resumed.inner_state, state)


def test_rings_are_written_in_place():
    """A step moves one gradient in and one out, whatever the delay: nothing else is copied."""

    def compiled(delay):
        tx = delayed(optax.sgd(0.1), delay)
        params = jnp.zeros(10_000)
        state = jax.eval_shape(tx.init, params)

        def step(params, state):
            updates, state = tx.update(jnp.sin(params), state, params)
            return params + updates, state

        return jax.jit(step, donate_argnums=(0, 1)).lower(params, state).compile()

    short, long = compiled(3), compiled(30)
    assert short.memory_analysis().temp_size_in_bytes < 1_000  # a gradient has 40,000 bytes
    assert long.memory_analysis().temp_size_in_bytes < 1_000
    assert not re.search(r"f32\[31,10000\]\S* copy", long.as_text())


@pytest.mark.parametrize("reduce", [None, lambda grads: grads], ids=["alone", "reduced"])
@pytest.mark.parametrize("delay", [1, 2, 5])
def test_which_gradients_are_applied_does_not_hang_on_the_ring(delay, reduce):
    tx = delayed(optax.sgd(1.0), delay, reduce=reduce)
    state, applied = tx.init(jnp.float32(0)), []
    for g in range(1, 20):
        updates, state = tx.update(jnp.float32(g), state)
        applied.append(-float(updates))
    assert applied == [*[0] * delay, *range(1, 20 - delay)]


# --------------------------------------------------------------------------------------------------
# Nesting
# --------------------------------------------------------------------------------------------------

LABELS = {"w": "a", "b": "b"}
WRAPPERS = {
    "chain": lambda tx: optax.chain(optax.clip(10.0), tx),
    "partition": lambda tx: optax.partition({"a": tx, "b": tx}, LABELS),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": True}),
    "inject": lambda tx: optax.inject_hyperparams(lambda unused: tx)(unused=1.0),
    "multi_steps": lambda tx: optax.MultiSteps(tx, 1),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_accessors_find_the_prediction_behind_the_queue_in_any_nesting(wrap):
    pair = delayed(adamw(), DELAY)
    expected, expected_state = advance(pair, PARAMS, pair.init(PARAMS), 5)
    wrapped = relaxed(wrap(pair.tx))
    state, params = wrapped.init(PARAMS), PARAMS
    for t in range(5):
        point = lookahead_params(params, state)
        updates, state = wrapped.update(gradient(point, t), state, params)
        params = optax.apply_updates(params, updates)
    assert_close(params, expected)
    assert_close(lookahead_params(params, state), pair.lookahead_params(expected, expected_state))


@pytest.mark.parametrize(
    "make",
    [lambda: delayed(in_place(adamw()), DELAY), lambda: in_place(delayed(adamw(), DELAY))],
    ids=["outside", "inside"],
)
def test_in_place_form_keeps_the_parameters_ahead(make):
    tx, pair = make(), delayed(adamw(), DELAY)
    expected, expected_state = advance(pair, PARAMS, pair.init(PARAMS), 5)
    params, state = advance(tx, PARAMS, tx.init(PARAMS), 5)
    assert_close(base_params(params, state), expected, 1e-5)
    assert_close(params, pair.lookahead_params(expected, expected_state), 1e-5)


def test_drop_in_form_keeps_the_parameters_ahead():
    tx = delayed(xgrad(optax.adamw(0.1), 3, predictor=predictors.adam(0.1)), DELAY)
    pair = delayed(adamw(), DELAY)
    expected, _ = advance(pair, PARAMS, pair.init(PARAMS), 5)
    params, state = advance(tx, PARAMS, tx.init(PARAMS), 5)
    assert_close(base_params(params, state), expected, 1e-5)


def test_delays_add_up():
    twice, once = delayed(delayed(adamw(), 1), 2), delayed(adamw(), 3)
    assert_close(
        advance(twice, PARAMS, twice.init(PARAMS), 7)[0],
        advance(once, PARAMS, once.init(PARAMS), 7)[0],
    )


# --------------------------------------------------------------------------------------------------
# Delays by leaf
# --------------------------------------------------------------------------------------------------


def test_delays_by_leaf_are_groups_of_one_delay_each():
    pair = delayed(adamw(), {"w": 0, "b": DELAY})
    by_hand = optax.partition(
        {"w": adamw().tx, "b": delayed(adamw(), DELAY).tx}, {"w": "w", "b": "b"}
    )
    params, _ = advance(pair, PARAMS, pair.init(PARAMS), 5)
    expected, expected_state = PARAMS, by_hand.init(PARAMS)
    for t in range(5):
        grads = gradient(lookahead_params(expected, expected_state), t)
        updates, expected_state = by_hand.update(grads, expected_state, expected)
        expected = optax.apply_updates(expected, updates)
    assert_equal(params, expected)


def test_a_prefix_of_the_parameters_tree_gives_the_delays():
    params = {"stage": {"w": jnp.ones(2), "b": jnp.ones(3)}, "head": jnp.ones(1)}
    prefix, whole = {"stage": 2, "head": 0}, {"stage": {"w": 2, "b": 2}, "head": 0}
    pairs = [delayed(adamw(), delays) for delays in (prefix, whole)]
    one, other = (advance(pair, params, pair.init(params), 4)[0] for pair in pairs)
    assert_equal(one, other)


@pytest.mark.parametrize("form", [xgrad, lambda tx, s: in_place(adamw(s))])
def test_forms_that_hold_the_predicted_point_take_delays_by_leaf(form):
    tx = delayed(form(optax.adamw(0.1), 1.0), {"w": 1, "b": DELAY})
    params, state = advance(tx, PARAMS, tx.init(PARAMS), 5)
    base = base_params(params, state)
    assert all(not np.allclose(base[name], params[name]) for name in params)


def test_in_flight_by_leaf():
    pair = delayed(adamw(), {"w": 1, "b": DELAY}, in_flight=True)
    params, state = advance(pair, PARAMS, pair.init(PARAMS), 1)
    point = pair.lookahead_params(params, state)  # both have a gradient in flight, neither moved
    assert all(not np.allclose(point[name], params[name]) for name in params)


# --------------------------------------------------------------------------------------------------
# Devices
# --------------------------------------------------------------------------------------------------


def test_specs_place_the_gradients_in_flight_in_any_nesting():
    tx = optax.chain(optax.clip(1.0), delayed(adamw(), DELAY).tx)
    specs = pending_specs(jax.eval_shape(tx.init, PARAMS), ("data", "more"))
    found = optax.tree.get(specs, "pending")
    assert found == dict.fromkeys(PARAMS, PartitionSpec(("data", "more")))
    assert optax.tree.get(specs, "position") == PartitionSpec()
    assert set(jax.tree.leaves(specs)) == {PartitionSpec(), PartitionSpec(("data", "more"))}


def test_spreading_keeps_what_will_be_applied():
    pair = delayed(optax.sgd(1.0), DELAY)
    state = pair.init(jnp.zeros(1))
    rings = jnp.array([[1.0], [2.0], [3.0], [6.0]])  # two devices, two gradients each
    state = spread_pending(state._replace(pending=rings), 2, onto=1)
    np.testing.assert_array_equal(state.pending, [[2.0], [4.0]])
    with pytest.raises(ValueError, match="not that of 3 devices"):
        spread_pending(state, 3, onto=1)


# --------------------------------------------------------------------------------------------------
# Refusals
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delay", "error", "message"),
    [
        (-1, ValueError, "delay must be a whole number of updates >= 0, got -1"),
        (1.0, TypeError, "got 1.0 of type float"),
        (True, TypeError, "got True of type bool"),
        (None, TypeError, "got None"),
        ({}, ValueError, "or a tree of them"),
        ({"a": {"b": 0.5}}, TypeError, re.escape("delay at ['a']['b'] must be")),
        ({"a": -2}, ValueError, re.escape("delay at ['a'] must be")),
    ],
)
def test_delays_that_are_none(delay, error, message):
    with pytest.raises(error, match=message):
        delayed(adamw(), delay)


@pytest.mark.parametrize("prediction", [optax.MultiSteps(optax.sgd(0.1), 2), 0.1, None])
def test_what_is_no_prediction_is_refused(prediction):
    with pytest.raises(TypeError, match="delayed takes what a named optimizer"):
        delayed(prediction, 1)


@pytest.mark.parametrize("late", [optax.sgd(0.1), delayed(adamw(), {"w": 1, "b": 2})])
def test_in_flight_needs_an_optimizer_to_roll_out(late):
    with pytest.raises(TypeError, match="in_flight=True rolls out"):
        delayed(late, 1, in_flight=True)


def test_in_place_cannot_be_made_of_what_is_rolled_out_or_by_leaf():
    with pytest.raises(ValueError, match=re.escape("delayed(in_place(prediction), delay)")):
        in_place(delayed(adamw(), {"w": 1, "b": 2}))
    with pytest.raises(ValueError, match="memory or the parameters"):
        in_place(delayed(with_weight_prediction(optax.sgd(0.1), predictor=zero_gradient()), 1))


def test_states_of_another_delay_and_other_parameters_are_refused():
    state = delayed(adamw(), 3).init(PARAMS)
    with pytest.raises(ValueError, match="rings of 4 gradients, but a delay of 2 needs 3"):
        delayed(adamw(), 2).update(PARAMS, state, PARAMS)
    with pytest.raises(ValueError, match=re.escape("['b'] has shape (4,)")):
        delayed(adamw(), 3).update({**PARAMS, "b": jnp.ones(4)}, state, PARAMS)
    with pytest.raises(ValueError, match="No gradients are in flight"):
        pending_specs(adamw().init(PARAMS), "data")
    assert isinstance(state, DelayedState)
