"""The command ``stability`` on a problem with known curvature."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from run_files import read_meta, read_records, read_table

import xgrad_optax
from experiments.cli import main
from experiments.curvature import make_sharpest
from experiments.studies.stability import work
from experiments.studies.stability.ask import SCALES
from experiments.studies.stability.measure import Measurements, crossing, fitted_radius
from xgrad_optax.stability import max_learning_rate, spectral_radius

LARGEST = 5.0  # curvature of the quadratic


@pytest.fixture(scope="module")
def measurements(quadratic):
    """γ and s are arguments of its programs, so that all tests share them."""
    return Measurements(quadratic, momentum=0.9, seed=0)


def two_layers(params, inputs):
    hidden = jnp.tanh(inputs @ params["in"])
    return jnp.mean((hidden @ params["out"] - inputs[:, 0]) ** 2)


def test_sharpest_direction_is_that_of_the_dense_hessian():
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"in": jax.random.normal(keys[0], (4, 5)), "out": jax.random.normal(keys[1], (5,))}
    inputs = jax.random.normal(keys[2], (30, 4))
    flat, unravel = ravel_pytree(params)
    values, vectors = np.linalg.eigh(
        jax.jit(jax.hessian(lambda p: two_layers(unravel(p), inputs)))(flat)
    )
    found = make_sharpest(two_layers)(params, inputs)
    assert values[0] < 0, "the largest eigenvalue, not that of largest modulus, is asked for"
    np.testing.assert_allclose(found.curvature, values[-1], rtol=1e-4)
    direction = ravel_pytree(found.direction)[0]
    np.testing.assert_allclose(abs(direction @ vectors[:, -1]), 1, rtol=1e-3)


def test_sharpest_direction_is_negated_curvature_if_that_is_all_there_is():
    found = make_sharpest(lambda x, c: -jnp.sum(c * x**2) / 2)(
        jnp.ones(4), jnp.array([1.0, 2.0, 3.0, 4.0])
    )
    np.testing.assert_allclose(found.curvature, -1, rtol=1e-4)


@pytest.mark.parametrize("s", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("factor", [0.5, 0.97, 1.03])
def test_measured_growth_is_the_spectral_radius_where_the_model_is_exact(measurements, s, factor):
    point = measurements.point(measurements.start)
    np.testing.assert_allclose(point.sharpest.curvature, LARGEST, rtol=1e-4)
    rate = factor * float(max_learning_rate(LARGEST, s, 0.9))
    growth = measurements.growth(point, rate, s, steps=30)
    np.testing.assert_allclose(growth, spectral_radius(LARGEST, rate, s, 0.9), atol=2e-3)


def test_full_batch_training_is_that_of_a_plain_loop_also_in_pieces(quadratic, measurements):
    state = measurements.train(0.05, 2.0, steps=3)
    after, _ = measurements.train(0.05, 2.0, steps=4, state=state)
    lookahead_params, tx = xgrad_optax.sgdm(0.05, s=2, momentum=0.9)
    params = measurements.start
    opt_state = tx.init(params)
    for _ in range(7):
        point = lookahead_params(params, opt_state)
        grads = jax.grad(quadratic.loss)(point, quadratic.train)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(after["θ"], params["θ"], rtol=1e-5)


def test_mini_batch_training_fails_above_the_limit_of_a_quadratic(measurements):
    limit = float(max_learning_rate(LARGEST, 1.0, 0.9))
    assert not measurements.fails(0.8 * limit, 1.0, steps=60)
    assert measurements.fails(1.2 * limit, 1.0, steps=60)


def test_fitted_radius_of_a_recurrence_and_of_too_few_steps():
    x = [1.0, 1.0]
    for _ in range(20):
        x.append(-0.5 * x[-1] - 0.8 * x[-2])
    np.testing.assert_allclose(fitted_radius(np.array(x)), np.sqrt(0.8), rtol=1e-9)
    assert np.isnan(fitted_radius(np.array([1.0, -20.0, 400.0, -8e3, 1e5])))
    overflowing = np.array([*x, np.inf, np.nan])
    np.testing.assert_allclose(fitted_radius(overflowing), np.sqrt(0.8), rtol=1e-9)


def test_crossing_is_interpolated_between_the_neighbours():
    np.testing.assert_allclose(crossing([0.9, 1.0, 1.1], [np.exp(-2), np.exp(-1), np.exp(1)]), 1.05)
    assert crossing([0.9, 1.1], [0.5, 0.6]) is None
    assert crossing([0.9, 1.1], [0.5, np.nan]) is None


def test_stability_predicts_and_observes(run_on_quadratic, capsys):
    status, folder = run_on_quadratic("stability --horizons 0 1", work)
    assert status == 0
    meta = read_meta(folder)
    assert (meta["status"], meta["horizons_finished"]) == ("complete", 2)
    assert meta["configuration"].keys() == {"problem", "horizons", "momentum", "seed", "scale"}
    assert meta["configuration"]["scale"] == dataclasses.asdict(SCALES["digits"])
    records = read_records(folder)
    assert [record["s"] for record in records] == [0, 1]
    for record in records:
        limit = 3.8 / (LARGEST * (1 + 2 * record["s"]))
        np.testing.assert_allclose(record["predicted_limit"], limit, rtol=1e-4)
        np.testing.assert_allclose(record["local_limit"], limit, rtol=0.01)
        # A quadratic is as sharp everywhere, so that mini-batch training has the same limit.
        np.testing.assert_allclose(record["batch_limit"], limit, rtol=0.5)
        edge = 0.1 * LARGEST * (1 + 2 * record["s"])
        np.testing.assert_allclose(record["edge_sharpness"], edge, rtol=1e-3)
    table = read_table(folder, "Limits")
    assert [row[0] for row in table] == ["s=0", "s=1"]
    for figure in ("limits.png", "choice.png", "late.png"):
        assert (folder / figure).stat().st_size > 10_000
        assert f"]({figure})" in (folder / "report.md").read_text()
    assert "predicted: 2(1 + μ)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("stability --problem mnist", "unknown problem 'mnist'; valid: digits, cifar10"),
        ("stability --momentum 1", "'1' is not a number from 0 to below 1"),
        ("stability --horizons -1", "'-1' is not a number of steps, 0 or more"),
        ("stability --examples 2000", "--examples 2000: digits has only 1077 training examples"),
        (
            "stability --problem cifar10 --data-dir nowhere",
            "is not in 'nowhere'; set TFDS_DATA_DIR",
        ),
    ],
)
def test_requests_that_cannot_be_met_are_explained(arguments, message, capsys):
    assert main(arguments.split()) == 2
    assert message in capsys.readouterr().err
