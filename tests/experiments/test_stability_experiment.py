"""The commands ``stability`` and ``horizon`` on problems with known curvature."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from run_files import read_meta, read_records, read_table

import xgrad_optax
from experiments.cli import main
from experiments.models.lenet import LeNet
from experiments.stability import horizon
from experiments.stability.curvature import make_sharpest
from experiments.stability.horizon import stable_horizon
from experiments.stability.lenet import PatchLeNet
from experiments.stability.measure import Measurements, crossing, fitted_radius
from experiments.stability.problems import Problem
from xgrad_optax.stability import max_learning_rate, spectral_radius

LARGEST = 5.0


@pytest.fixture
def quadratic():
    """½ Σ h_i θ_i² + noise·θ: the loss that the quadratic model is exact for."""
    curvatures = jnp.linspace(0.5, LARGEST, 6)
    noise = 0.1 * jax.random.normal(jax.random.key(1), (40, 6))
    noise -= noise.mean(axis=0)

    def loss(params, examples):
        quadratic = jnp.sum(curvatures.astype(params["θ"].dtype) * params["θ"] ** 2) / 2
        return quadratic + jnp.mean(examples @ params["θ"])

    def init(key):
        return {"θ": 1 + jax.random.uniform(key, (6,))}

    return Problem("quadratic", noise, noise[:10], init, loss, batch_size=8)


def two_layers(params, inputs):
    hidden = jnp.tanh(inputs @ params["in"])
    return jnp.mean((hidden @ params["out"] - inputs[:, 0]) ** 2)


def test_sharpest_direction_is_that_of_the_dense_hessian():
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"in": jax.random.normal(keys[0], (4, 5)), "out": jax.random.normal(keys[1], (5,))}
    inputs = jax.random.normal(keys[2], (30, 4))
    flat, unravel = ravel_pytree(params)
    values, vectors = np.linalg.eigh(jax.hessian(lambda p: two_layers(unravel(p), inputs))(flat))
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
def test_measured_growth_is_the_spectral_radius_where_the_model_is_exact(quadratic, s, factor):
    measurements = Measurements(quadratic, momentum=0.9, seed=0)
    point = measurements.point(measurements.start)
    np.testing.assert_allclose(point.sharpest.curvature, LARGEST, rtol=1e-4)
    rate = factor * float(max_learning_rate(LARGEST, s, 0.9))
    growth = measurements.growth(point, rate, s, steps=30)
    np.testing.assert_allclose(growth, spectral_radius(LARGEST, rate, s, 0.9), atol=2e-3)


def test_full_batch_training_is_that_of_a_plain_loop_also_in_pieces(quadratic):
    measurements = Measurements(quadratic, momentum=0.9, seed=0)
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


def test_mini_batch_training_fails_above_the_limit_of_a_quadratic(quadratic):
    measurements = Measurements(quadratic, momentum=0.9, seed=0)
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


def test_lenet_by_products_is_lenet():
    images = jax.random.normal(jax.random.key(0), (3, 32, 32, 3))
    params = PatchLeNet(outputs=10).init(jax.random.key(1), images)
    expected = LeNet(outputs=10).apply(params, images)
    np.testing.assert_allclose(PatchLeNet(outputs=10).apply(params, images), expected, atol=1e-5)


# --------------------------------------------------------------------------------------------------
# The horizon that sets itself
# --------------------------------------------------------------------------------------------------


def follow(gradient, rate, momentum, s_max, steps):
    """Runs the prototype beside explicit sums over stored gradients; returns both horizons."""
    lookahead_params, tx = stable_horizon(rate, momentum, s_max)
    theta = jnp.array([1.0, -0.5, 2.0])
    state = tx.init(theta)
    velocity, old_gradient, old_d = np.zeros(3), np.zeros(3), np.zeros(3)
    rise = sizes = 0.0
    pairs = []
    for step in range(steps):
        grads = gradient(lookahead_params(theta, state), step)
        updates, state = tx.update(grads, state, theta)
        theta = theta + updates
        g = np.asarray(grads, np.float64)
        rise = horizon.MEMORY * rise + (g - old_gradient) @ old_d
        sizes = horizon.MEMORY * sizes + old_d @ old_d
        velocity = momentum * velocity + g
        old_gradient, old_d = g, -rate * velocity
        q = rate * rise / sizes if sizes else 0.0
        wanted = horizon.MARGIN * (1 + momentum) / q - 0.5 if q > 0 else s_max
        pairs.append((float(state.s), np.clip(wanted, 0, s_max)))
    return np.array(pairs).T


def test_two_dot_products_give_the_secant_without_the_old_gradient():
    noise = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)

    def gradient(theta, step):
        return jnp.array([0.5, 2.0, 6.0]) * theta + noise[step]

    found, expected = follow(gradient, 0.1, 0.9, 4.0, 30)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(np.unique(found)) > 20, "not a bound all the time"


def test_the_prototype_rescues_a_quadratic_on_which_its_bound_diverges():
    h, rate = 2.0, 0.5
    assert rate > max_learning_rate(h, 4.0, 0.9)

    def run(lookahead_params, tx):
        theta = jnp.array([1.0])
        state = tx.init(theta)
        for _ in range(60):
            updates, state = tx.update(h * lookahead_params(theta, state), state, theta)
            theta = theta + updates
        return float(jnp.abs(theta[0]))

    assert run(*xgrad_optax.sgdm(rate, s=4)) > 1e6
    assert run(*stable_horizon(rate, 0.9, 4.0)) < 1


# --------------------------------------------------------------------------------------------------
# The commands
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(quadratic, monkeypatch, tmp_path):
    """Runs a command on the quadratic; returns the exit status and the run folder."""
    monkeypatch.setattr("experiments.stability.problems.load_problem", lambda *_: quadratic)
    folder = tmp_path / "run"

    def run(arguments):
        return main([*arguments.split(), "--output", str(folder)]), folder

    return run


def test_stability_predicts_and_observes(run, capsys):
    status, folder = run("stability --horizons 0 1")
    assert status == 0
    assert read_meta(folder)["status"] == "complete"
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
    assert (folder / "limits.png").stat().st_size > 10_000
    assert "predicted: 2(1 + μ)" in capsys.readouterr().out


def test_horizon_compares_the_prototype_with_fixed_horizons(run):
    status, folder = run("horizon --horizons 0 4 --learning-rates 0.05 0.3 --epochs 20 --seeds 3")
    assert status == 0
    records = read_records(folder)
    assert len(records) == 2 * 3 * 3
    failed = {(r["learning_rate"], r["arm"]) for r in records if r["failed"]}
    assert failed == {(0.3, "s=4")}, "0.3 is above the limit of s=4 and below that of s=0"
    assert all(r["s_quartiles"] == [4, 4, 4] for r in records if r["arm"] == "s=4")
    report = (folder / "report.md").read_text()
    assert "| 0.3 | s=4 | 3 of 3 |" in report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("stability --problem mnist", "unknown problem 'mnist'; valid: digits, cifar10"),
        ("stability --momentum 1", "'1' is not a number from 0 to below 1"),
        ("stability --horizons -1", "'-1' is not a number of steps, 0 or more"),
        ("stability --examples 2000", "--examples 2000: digits has only 1077 training examples"),
        ("horizon --learning-rates 0", "'0' is not a number above 0"),
        (
            "stability --problem cifar10 --data-dir nowhere",
            "is not in 'nowhere'; set TFDS_DATA_DIR",
        ),
    ],
)
def test_requests_that_cannot_be_met_are_explained(arguments, message, capsys):
    assert main(arguments.split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["stability", "horizon"])
def test_help_explains_every_option(command, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([command, "--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    for option in ("problem", "data-dir", "examples", "momentum", "horizons", "output"):
        assert f"--{option} " in text
