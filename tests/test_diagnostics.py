"""Prediction errors against NumPy, exact expectations, and JAX's transformations."""

import functools
import re

import isolated
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sharding_worker
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xgrad_optax import predictors, with_weight_prediction, xgrad
from xgrad_optax.diagnostics import prediction_error, trajectory_prediction_error

pytestmark = pytest.mark.usefixtures("quickly_compiled")
RATE, MOMENTUM = 0.1, 0.75
HORIZONS = (1, 2, 5)
PREDICTORS = {
    "last_update": predictors.last_update,
    "zero_gradient": predictors.zero_gradient,
    "closed_form": lambda: predictors.sgdm(RATE),
}
EACH_PREDICTOR = pytest.mark.parametrize("predictor", PREDICTORS)
PARAMS = {"w": jnp.array([[1.0, -2.0, 0.5], [0.25, 1.5, -1.0]]), "b": jnp.array([0.5, -0.125])}


def transform(predictor, s=0):
    inner = optax.sgd(RATE, momentum=MOMENTUM)
    return with_weight_prediction(inner, s, predictor=PREDICTORS[predictor]())


def random_grads(steps, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(rng.normal(size=(steps, *leaf.shape)), jnp.float32)
        for name, leaf in PARAMS.items()
    }


def record(tx, grads, params=PARAMS):
    """Parameters and states after each update by a given sequence of gradients."""

    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        carry = (optax.apply_updates(params, updates), state)
        return carry, carry

    _, recorded = jax.lax.scan(step, (params, tx.init(params)), grads)
    return recorded


@functools.partial(jax.jit, static_argnums=0)
def measure_recorded(measure, params, states):
    """The state of the online measurement after it was shown each recorded step."""
    state = measure.init(*jax.tree.map(lambda leaf: leaf[0], (params, states)))
    steps = (params, states)
    return jax.lax.scan(lambda state, step: (measure.update(state, *step), None), state, steps)[0]


def assert_trees_close(actual, expected, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=rtol, atol=atol), actual, expected
    )


# --------------------------------------------------------------------------------------------------
# Against NumPy
# --------------------------------------------------------------------------------------------------


def reference(predictor, grads, horizon):
    """Relative errors and cosines of every prediction ``horizon`` steps ahead, in float64.

    ``grads`` are vectors, ``[steps, parameters]``; the parameters themselves play no part.
    """
    steps = len(grads)
    v = np.zeros(grads.shape[1])
    velocities, positions = [], [v]
    for g in np.asarray(grads, np.float64):
        v = MOMENTUM * v + g
        velocities.append(v)
        positions.append(positions[-1] - RATE * v)
    positions = positions[1:]  # after each update
    factor = {
        "last_update": horizon,
        "closed_form": horizon,
        "zero_gradient": sum(MOMENTUM**k for k in range(1, horizon + 1)),
    }[predictor]
    errors, cosines = [], []
    for t in range(steps - horizon):
        moved = positions[t + horizon] - positions[t]
        predicted = -RATE * factor * velocities[t]
        errors.append(np.linalg.norm(predicted - moved) / np.linalg.norm(moved))
        cosines.append(predicted @ moved / np.linalg.norm(predicted) / np.linalg.norm(moved))
    return np.array(errors), np.array(cosines)


def assert_matches_reference(statistics, predictor, grads, rtol=2e-4):
    for k, horizon in enumerate(HORIZONS):
        errors, cosines = reference(predictor, grads, horizon)
        expected = (errors.mean(), errors.std(), cosines.mean(), cosines.std(), len(errors))
        found = [field[k] for field in statistics]
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=2e-5)


@EACH_PREDICTOR
def test_matches_the_numpy_reference_overall_and_by_leaf(predictor):
    grads = random_grads(12)
    recorded = record(transform(predictor).tx, grads)
    summary = prediction_error(HORIZONS).summary(
        measure_recorded(prediction_error(HORIZONS), *recorded)
    )
    flat = {name: np.asarray(g).reshape(len(g), -1) for name, g in grads.items()}
    assert_matches_reference(summary.overall, predictor, np.hstack([flat["w"], flat["b"]]))
    for name, g in flat.items():
        assert_matches_reference(summary.per_leaf[name], predictor, g)
    np.testing.assert_array_equal(summary.horizons, HORIZONS)


@EACH_PREDICTOR
def test_matches_the_reference_for_any_gradients(predictor):
    measure = prediction_error(HORIZONS)
    tx = transform(predictor).tx

    @jax.jit
    def run(grads):
        params, states = record(tx, grads, jnp.zeros(3))
        return measure.summary(measure_recorded(measure, params, states)).overall

    values = st.sampled_from([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])
    grads = hnp.arrays(np.float32, (8, 3), elements=values)

    @given(grads)
    @settings(max_examples=20)
    def check(grads):
        v = np.zeros(3)
        velocities = [v := MOMENTUM * v + g for g in grads.astype(np.float64)]
        movements = [
            sum(velocities[t + 1 : t + 1 + h]) for h in HORIZONS for t in range(len(grads) - h)
        ]
        # Where almost nothing moves rounding decides about the direction.
        if min(map(np.linalg.norm, movements)) > 0.05:
            assert_matches_reference(run(grads), predictor, grads, rtol=2e-3)

    check()


# --------------------------------------------------------------------------------------------------
# Exact expectations
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("predictor", [predictors.last_update, lambda: predictors.adam(0.5)])
def test_constant_updates_are_predicted_exactly(predictor):
    # Adam with constant gradients moves by γ·sign(g); 0.5 and integers are exact in float32.
    inner = optax.sgd(0.5) if predictor is predictors.last_update else optax.adam(0.5, eps=0.0)
    _, tx = with_weight_prediction(inner, s=1, predictor=predictor())
    grads = {name: jnp.ones((14, *leaf.shape)) for name, leaf in PARAMS.items()}
    summary = trajectory_prediction_error(*record(tx, grads))
    for statistics in [summary.overall, *summary.per_leaf.values()]:
        np.testing.assert_allclose(statistics.relative_error, np.zeros(10), atol=1e-5)
        np.testing.assert_allclose(statistics.cosine, np.ones(10), rtol=1e-6)
        np.testing.assert_array_equal(statistics.count, 14 - np.arange(1, 11))


def test_a_prediction_of_nothing_is_the_reference_of_one():
    _, tx = with_weight_prediction(optax.sgd(0.5), 1, predictor=predictors.zero_gradient())
    summary = trajectory_prediction_error(*record(tx, random_grads(6)), horizons=(1, 3))
    # Without momentum nothing is left to do once the gradient is zero.
    np.testing.assert_allclose(summary.overall.relative_error, [1.0, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(summary.overall.cosine, [0.0, 0.0])
    np.testing.assert_array_equal(summary.overall.count, [5, 3])


def test_where_nothing_moves_nothing_is_compared():
    params, states = record(
        transform("closed_form").tx, jax.tree.map(jnp.zeros_like, random_grads(6))
    )
    measure = prediction_error(HORIZONS)
    for summary in (
        measure.summary(measure_recorded(measure, params, states)),
        trajectory_prediction_error(params, states, HORIZONS),
    ):
        for statistics in [summary.overall, *summary.per_leaf.values()]:
            np.testing.assert_array_equal(statistics.relative_error, np.ones(3))
            np.testing.assert_array_equal(statistics.cosine, np.zeros(3))
            np.testing.assert_array_equal(statistics.count, np.zeros(3))


def test_a_frozen_leaf_is_not_compared_and_an_uncovered_one_counts_as_unpredicted():
    wrapped = with_weight_prediction(optax.sgd(0.5), 1)
    labels = {"w": "predicted", "b": "plain"}
    tx = optax.partition({"predicted": wrapped.tx, "plain": optax.sgd(0.5)}, labels)
    grads = jax.tree.map(jnp.ones_like, random_grads(6))
    summary = trajectory_prediction_error(*record(tx, grads), horizons=(1, 3))
    np.testing.assert_allclose(summary.per_leaf["w"].relative_error, [0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(summary.per_leaf["b"].relative_error, [1.0, 1.0], rtol=1e-6)
    # 2 of 8 equal entries are missed.
    np.testing.assert_allclose(summary.overall.relative_error, [0.5, 0.5], rtol=1e-6)

    tx = optax.partition({"predicted": wrapped.tx, "plain": optax.set_to_zero()}, labels)
    summary = trajectory_prediction_error(*record(tx, grads), horizons=(1, 3))
    np.testing.assert_array_equal(summary.per_leaf["b"].count, [0, 0])
    np.testing.assert_array_equal(summary.overall.count, [5, 3])


def test_divergence_shows():
    grads = random_grads(6)
    grads["b"] = grads["b"].at[3].set(jnp.nan)
    summary = trajectory_prediction_error(*record(transform("last_update").tx, grads), (1,))
    assert np.isnan(summary.overall.relative_error[0])
    assert np.isfinite(summary.per_leaf["w"].relative_error[0])


# --------------------------------------------------------------------------------------------------
# In a training loop
# --------------------------------------------------------------------------------------------------


def loss(params, target):
    return jnp.sum(jnp.tanh(params["w"]) ** 2) + jnp.sum((params["b"] - target) ** 2)


def make_loop(predictor, s, measure):
    lookahead_params, tx = transform(predictor, s)

    def start():
        state = tx.init(PARAMS)
        return PARAMS, state, measure.init(PARAMS, state)

    def step(carry, target):
        params, state, errors = carry
        grads = jax.grad(loss)(lookahead_params(params, state), target)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return params, state, measure.update(errors, params, state)

    return start, step


TARGETS = jnp.linspace(-1.0, 1.0, 10)


@EACH_PREDICTOR
@pytest.mark.parametrize("s", [0, 1.5])
def test_online_and_offline_agree(predictor, s):
    measure = prediction_error(HORIZONS)
    start, step = make_loop(predictor, s, measure)

    def recording_step(carry, target):
        carry = step(carry, target)
        return carry, carry[:2]

    (_, _, state), recorded = jax.lax.scan(recording_step, start(), TARGETS)
    offline = trajectory_prediction_error(*recorded, HORIZONS)
    assert_trees_close(measure.summary(state), offline, rtol=1e-4)


@EACH_PREDICTOR
def test_loops_of_all_kinds_agree_and_compile_once(predictor):
    measure = prediction_error(HORIZONS)
    start, step = make_loop(predictor, 1, measure)
    traces = 0

    def counted_step(carry, target):
        nonlocal traces
        traces += 1
        return step(carry, target)

    jitted = jax.jit(counted_step, donate_argnums=0)
    carry = jax.tree.map(jnp.copy, start())
    shapes = jax.eval_shape(lambda: carry)
    for target in TARGETS:
        carry = jitted(carry, target)
    assert traces == 1
    assert jax.eval_shape(lambda: carry) == shapes
    scanned, _ = jax.lax.scan(lambda c, x: (step(c, x), None), start(), TARGETS)
    assert_trees_close(carry, scanned)
    assert jax.tree.structure(jax.eval_shape(start)) == jax.tree.structure(scanned)


def test_vmap_measures_each_run_on_its_own():
    measure = prediction_error(HORIZONS)
    start, step = make_loop("closed_form", 1, measure)

    def run(shift):
        carry, _ = jax.lax.scan(lambda c, x: (step(c, x), None), start(), TARGETS + shift)
        return measure.summary(carry[2])

    shifts = jnp.array([0.0, 0.5, -2.0])
    together = jax.jit(jax.vmap(run))(shifts)
    for k, shift in enumerate(shifts):
        assert_trees_close(jax.tree.map(lambda x, k=k: x[k], together), jax.jit(run)(shift))


def test_reset_starts_new_means_and_keeps_the_buffers():
    measure = prediction_error(HORIZONS)
    params, states = record(transform("last_update").tx, random_grads(12))
    first, second = (
        jax.tree.map(lambda leaf, part=part: leaf[part], (params, states))
        for part in (slice(0, 7), slice(7, 12))
    )
    half = measure.reset(measure_recorded(measure, *first))
    assert int(half.count) == 7
    np.testing.assert_array_equal(measure.summary(half).overall.count, [0, 0, 0])
    end, update = half, jax.jit(measure.update)
    for k in range(5):
        end = update(end, *jax.tree.map(lambda leaf, k=k: leaf[k], second))
    summary = measure.summary(end)
    np.testing.assert_array_equal(summary.overall.count, [5, 5, 5])
    # The mean of the second half is what is left of the whole mean times its count.
    whole = trajectory_prediction_error(params, states, HORIZONS).overall
    before = trajectory_prediction_error(*first, HORIZONS).overall
    left = whole.relative_error * whole.count.astype(float)
    left -= before.relative_error * before.count.astype(float)
    np.testing.assert_allclose(summary.overall.relative_error, left / 5, rtol=1e-3)


@pytest.mark.parametrize(
    ("predictor", "horizons", "multiple"),
    [
        ("last_update", range(1, 11), 20),
        ("closed_form", range(1, 11), 20),
        ("zero_gradient", range(1, 11), 65),
        ("closed_form", (1,), 2),
        ("zero_gradient", (1,), 2),
        ("zero_gradient", (2, 4), 10),
    ],
)
def test_memory_is_what_the_documentation_says(predictor, horizons, multiple):
    state = transform(predictor).tx.init(PARAMS)
    shapes = jax.eval_shape(prediction_error(horizons).init, PARAMS, state)
    kept = sum(leaf.size for leaf in jax.tree.leaves((shapes.params, shapes.displacements)))
    assert kept == multiple * 8


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.complex64])
def test_other_dtypes_are_measured_in_single_precision(dtype):
    params = {"low": jnp.zeros(4, dtype), "single": jnp.zeros(4), "none": None}
    grads = jax.tree.map(lambda p: jnp.ones((6, 4), p.dtype), params)
    _, tx = with_weight_prediction(optax.sgd(0.25), 1)
    summary = trajectory_prediction_error(*record(tx, grads, params), horizons=(1, 2))
    assert {leaf.dtype for leaf in jax.tree.leaves(summary.overall[:4])} == {jnp.dtype("float32")}
    np.testing.assert_array_equal(summary.per_leaf["low"].relative_error, [0.0, 0.0])
    assert summary.per_leaf["none"] is None


def test_complex_directions_are_told_apart():
    _, tx = with_weight_prediction(optax.sgd(1.0), 1)
    grads = jnp.array([1.0, 1.0j, -1.0, -1.0j], jnp.complex64)[:, None]
    summary = trajectory_prediction_error(*record(tx, grads, jnp.zeros(1, jnp.complex64)), (1,))
    np.testing.assert_allclose(summary.overall.cosine, [0.0], atol=1e-7)
    np.testing.assert_allclose(summary.overall.relative_error, [np.sqrt(2)], rtol=1e-6)


def test_a_sample_of_the_entries_bounds_memory_and_estimates_the_errors():
    params = {"large": jnp.zeros((64, 64)), "small": jnp.zeros(3)}
    rng = np.random.default_rng(0)
    drift = rng.normal(size=(64, 64))
    noise = rng.normal(size=(12, 64, 64))
    grads = {
        "large": jnp.asarray(drift + noise, jnp.float32),
        "small": jnp.asarray(rng.normal(size=(12, 3)), jnp.float32),
    }
    params, states = record(transform("last_update").tx, grads, params)
    sampled, whole = prediction_error((1, 4), max_entries=512), prediction_error((1, 4))
    state = measure_recorded(sampled, params, states)
    assert state.params["large"].shape == (4, 512)
    estimate, exact = (
        measure.summary(measure_recorded(measure, params, states)) for measure in (sampled, whole)
    )
    assert_trees_close(estimate.per_leaf["small"], exact.per_leaf["small"])
    for name in ("relative_error", "cosine"):
        found, expected = (getattr(s.per_leaf["large"], name) for s in (estimate, exact))
        np.testing.assert_allclose(found, expected, rtol=0.1)


def test_a_sample_comes_from_all_rows_and_columns():
    rows, columns = jnp.divmod(jnp.arange(64.0 * 64).reshape(64, 64), 64)
    _, tx = with_weight_prediction(optax.sgd(1.0), 1)
    measure = prediction_error((1,), max_entries=256)
    for index in (rows, columns):
        state = measure.init(index, tx.init(index))
        state = jax.jit(measure.update)(state, index, tx.init(index))
        assert len(np.unique(state.params)) > 48


@pytest.mark.parametrize("axis_types", ["explicit_axes", "auto_axes"])
@pytest.mark.parametrize("predictor", ["last_update", "zero_gradient", "closed_form"])
def test_buffers_lie_where_the_params_lie(axis_types, predictor):
    found, on_one_device = isolated.run(
        sharding_worker.measure_prediction_error,
        "two_dimensional",
        axis_types,
        predictor,
        devices=8,
    )
    assert found.moved == []
    assert found.specs == {
        "w1": (None, "data", "model"),
        "b1": (None, "model"),
        "w2": (None, "model", "data"),
    }
    # Only sums over a leaf are communicated, at most four for each leaf and horizon.
    assert {(operation, array) for operation, array, _ in found.added} == {("all-reduce", "f32[]")}
    assert sum(found.added.values()) <= 4 * 2 * 3
    np.testing.assert_allclose(found.errors, on_one_device.errors, rtol=1e-4)


# --------------------------------------------------------------------------------------------------
# Errors
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"horizons": ()}, ValueError, "one or more different numbers of steps"),
        (
            {"horizons": (1, 2, 1)},
            ValueError,
            "different numbers of steps such as range(1, 11), got (1, 2, 1)",
        ),
        (
            {"horizons": (0, 1)},
            ValueError,
            "each of `horizons` must be a whole number >= 1, got 0.",
        ),
        ({"horizons": (1.5,)}, TypeError, "must be a whole number >= 1, got 1.5 of type float"),
        ({"horizons": (True,)}, TypeError, "got True of type bool"),
        ({"max_entries": 0}, ValueError, "max_entries must be a whole number >= 1, got 0."),
        ({"max_entries": "all"}, TypeError, "max_entries must be a whole number >= 1, got 'all'"),
    ],
)
def test_bad_arguments(arguments, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        prediction_error(**arguments)


def test_states_without_a_predictor_are_refused():
    measure = prediction_error()
    with pytest.raises(ValueError, match=re.escape("belongs to the drop-in form xgrad(...)")):
        measure.init(PARAMS, xgrad(optax.sgd(0.1)).init(PARAMS))
    with pytest.raises(ValueError, match="found no prediction state in opt_state"):
        measure.init(PARAMS, optax.sgd(0.1).init(PARAMS))


def test_other_parameters_are_refused():
    measure = prediction_error()
    tx = transform("last_update").tx
    state = measure.init(PARAMS, tx.init(PARAMS))
    other = PARAMS | {"b": jnp.zeros(3)}
    with pytest.raises(ValueError, match=re.escape("'b': (3,)")):
        measure.update(state, other, tx.init(other))


def test_short_trajectories_are_refused():
    recorded = record(transform("last_update").tx, random_grads(5))
    with pytest.raises(ValueError, match=r"5 updates ahead a trajectory needs more .* has 5"):
        trajectory_prediction_error(*recorded, horizons=(1, 5))
