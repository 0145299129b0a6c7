"""The command ``horizon``, and the horizon that sets itself."""

import jax
import jax.numpy as jnp
import numpy as np
from run_files import read_meta, read_records

import xgrad_optax
from experiments.cli import main
from experiments.studies.horizon import stable_horizon as horizon
from experiments.studies.horizon import work
from experiments.studies.horizon.stable_horizon import stable_horizon
from xgrad_optax.stability import max_learning_rate


def follow(gradient, rate, momentum, s_max, steps):
    """Runs the prototype beside explicit sums over stored gradients; returns both horizons."""
    lookahead_params, tx = stable_horizon(rate, momentum, s_max)
    theta = jnp.array([1.0, -0.5, 2.0])
    state = tx.init(theta)
    velocity, old_gradient, old_d = np.zeros(3), np.zeros(3), np.zeros(3)
    rise = sizes = 0.0
    pairs = []

    @jax.jit
    def take_step(theta, state, step):
        grads = gradient(lookahead_params(theta, state), step)
        updates, state = tx.update(grads, state, theta)
        return theta + updates, state, grads

    for step in range(steps):
        theta, state, grads = take_step(theta, state, step)
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
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(30, 3)), jnp.float32)

    def gradient(theta, step):
        return jnp.array([0.5, 2.0, 6.0]) * theta + noise[step]

    found, expected = follow(gradient, 0.1, 0.9, 4.0, 30)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(np.unique(found)) > 20, "not a bound all the time"


def test_the_prototype_rescues_a_quadratic_on_which_its_bound_diverges():
    h, rate = 2.0, 0.5
    assert rate > max_learning_rate(h, 4.0, 0.9)

    def run(lookahead_params, tx):
        def step(_, carry):
            theta, state = carry
            updates, state = tx.update(h * lookahead_params(theta, state), state, theta)
            return theta + updates, state

        theta = jnp.array([1.0])
        theta, _ = jax.lax.fori_loop(0, 60, step, (theta, tx.init(theta)))
        return float(jnp.abs(theta[0]))

    assert run(*xgrad_optax.sgdm(rate, s=4)) > 1e6
    assert run(*stable_horizon(rate, 0.9, 4.0)) < 1


def test_horizon_compares_the_prototype_with_fixed_horizons(run_on_quadratic):
    options = "--horizons 0 4 --learning-rates 0.05 0.3 --epochs 20 --seeds 3"
    status, folder = run_on_quadratic(f"horizon {options}", work)
    assert status == 0
    records = read_records(folder)
    assert len(records) == 2 * 3 * 3
    failed = {(r["learning_rate"], r["arm"]) for r in records if r["failed"]}
    assert failed == {(0.3, "s=4")}, "0.3 is above the limit of s=4 and below that of s=0"
    assert all(r["s_quartiles"] == [4, 4, 4] for r in records if r["arm"] == "s=4")
    meta = read_meta(folder)
    assert (meta["status"], meta["arms_finished"]) == ("complete", 6)
    assert meta["configuration"] == {
        "problem": "digits",
        "examples": None,
        "momentum": 0.9,
        "horizons": [0, 4],
        "learning_rates": [0.05, 0.3],
        "s_max": 4,
        "epochs": 20,
        "seeds": [100, 101, 102],
    }
    report = (folder / "report.md").read_text()
    assert "| 0.3 | s=4 | 3 of 3 |" in report


def test_a_rate_of_zero_is_refused(capsys):
    assert main(["horizon", "--learning-rates", "0"]) == 2
    assert "'0' is not a number above 0" in capsys.readouterr().err
