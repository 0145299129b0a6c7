"""The command ``error-bound`` on a quadratic, and what it measures, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from run_files import read_meta, read_records, read_table

from experiments.cli import main
from experiments.curvature import make_stretch
from experiments.studies.error_bound import bounds, measure, work
from experiments.studies.error_bound.ask import HESSIAN, PARTS, VISITED
from tests.reference.algorithm_1 import algorithm_1
from tests.reference.optimizers import SGDM, Adam

LARGEST = 5.0  # curvature of the quadratic
HORIZONS = [1, 3, 4]
ROUNDS, EVERY = 6, 5


@pytest.fixture(scope="module")
def complete(run_on_quadratic):
    options = f"--ahead 1 3 4 --points {ROUNDS} --every {EVERY} --seeds 2 --adam-rate 0.03"
    status, folder = run_on_quadratic(f"error-bound {options}", work)
    assert status == 0
    return folder


def test_every_kind_of_training_leaves_a_record_for_each_seed(complete):
    assert {path.name for path in complete.iterdir()} == {
        "report.md",
        "ratios.png",
        "runs.jsonl",
        "meta.json",
    }
    records = read_records(complete)
    assert [(r["optimizer"], r["batches"], r["s"], r["seed"]) for r in records] == [
        (optimizer, batches, s, seed)
        for optimizer in ("sgdm", "adam")
        for batches in ("full", "mini")
        for s in (0.0, 1.0)
        for seed in (0, 1)
    ]
    for record in records:
        assert record["steps"] == [1, 6, 11, 16, 21, 26]
        assert np.shape(record["error"]) == np.shape(record["bounds"][VISITED]) == (6, 3)
    meta = read_meta(complete)
    assert (meta["status"], meta["arms_finished"]) == ("complete", 8)
    assert meta["configuration"] == {
        "problem": "digits",
        "examples": None,
        "optimizers": ["sgdm", "adam"],
        "batches": ["full", "mini"],
        "trained_with": [0, 1],
        "horizons": HORIZONS,
        "sgdm_rate": 0.1,
        "adam_rate": 0.03,
        "momentum": 0.9,
        "points": ROUNDS,
        "every": EVERY,
        "seeds": [0, 1],
    }


def test_with_the_smoothness_of_the_places_visited_the_bound_always_holds(complete):
    for record in read_records(complete):
        error, bound = np.array(record["error"]), np.array(record["bounds"][VISITED])
        assert np.all(error > 0)
        assert np.all(error <= bound * (1 + 1e-4))


def test_the_hessian_of_a_quadratic_is_smooth_enough(complete):
    for record in read_records(complete):
        visited, hessian = (np.array(record["smoothness"][name]) for name in (VISITED, HESSIAN))
        assert np.all(visited <= hessian * (1 + 1e-3))
        if record["optimizer"] == "sgdm":
            np.testing.assert_allclose(hessian, LARGEST, rtol=1e-3)
        assert np.all(np.array(record["error"]) <= np.array(record["bounds"][HESSIAN]) * (1 + 1e-3))


def test_the_parts_of_a_bound_are_all_of_it(complete):
    for record in read_records(complete):
        parts = {name: np.array(values) for name, values in record["parts"].items()}
        assert tuple(parts) == tuple(PARTS)
        np.testing.assert_allclose(sum(parts.values()), record["bounds"][VISITED], rtol=1e-3)
        assert np.all(parts["gap"] > 0)
        assert np.any(parts["scale"] > 0) == (record["optimizer"] == "adam")
        assert np.any(parts["noise"] > 0) == (record["batches"] == "mini")


def test_the_page_shows_what_the_records_say(complete):
    records = read_records(complete)
    rows = read_table(
        complete, "Bound over actual error, with the smoothness of the places visited"
    )
    assert [row[:3] for row in rows[:2]] == [["sgdm", "full", "s=0"], ["sgdm", "full", "s=1"]]
    for place, cell in enumerate(rows[0][3:]):
        ratios = [
            np.sort(np.divide(r["bounds"][VISITED], r["error"])[:, place])[3] for r in records[:2]
        ]
        np.testing.assert_allclose(float(cell.split(" ")[0]), np.prod(ratios) ** 0.5, rtol=0.01)
    for heading in ("The same with the smoothness of the Hessian", "Which part is how large"):
        assert len(read_table(complete, heading)) == 8


@pytest.mark.parametrize("s", [0.0, 1.0])
@pytest.mark.parametrize("optimizer", ["sgdm", "adam"])
def test_errors_distances_and_smoothness_are_those_of_the_algorithm(quadratic, optimizer, s):
    rate = {"sgdm": 0.1, "adam": 0.03}[optimizer]
    rule = bounds.sgdm(rate, 0.9) if optimizer == "sgdm" else bounds.adam(rate)
    start, unravel = ravel_pytree(quadratic.init(jax.random.key(0)))
    gradient = jax.grad(lambda params: quadratic.loss(unravel(params), quadratic.train))
    nothing = jnp.zeros(()), jnp.zeros((ROUNDS, EVERY))
    _, found = jax.jit(
        lambda start: measure.train(
            rule, rate, lambda params, _: gradient(params), None, start, s, nothing, 4
        )
    )(start)

    curvatures = np.linspace(0.5, LARGEST, 6)
    offset = np.asarray(quadratic.train).mean(axis=0)
    reference = SGDM() if optimizer == "sgdm" else Adam()
    θ, θ_hat, moments = algorithm_1(
        reference,
        lambda x, _: curvatures * x + offset,
        np.asarray(start, np.float64),
        s,
        1 + ROUNDS * EVERY + 1,
        lambda _: rate,
    )
    x = np.concatenate([θ[:1], θ_hat])
    for place, t in enumerate(range(1, ROUNDS * EVERY, EVERY)):
        if optimizer == "sgdm":
            u, D, most = moments["v"][t], np.ones(6), np.inf
        else:
            D = np.sqrt(moments["v"][t] / (1 - 0.999**t)) + 1e-8
            u, most = moments["m"][t] / (1 - 0.9**t) / D, np.sqrt(2 * (1 - 0.999**t) / 1e-3)
        secants = []
        for h in range(1, 5):
            error = np.linalg.norm(θ[t] - h * rate * u - θ[t + h])
            np.testing.assert_allclose(found.error[place, h - 1], error, rtol=1e-3, atol=1e-6)
            moved = np.linalg.norm(θ[t + h] - θ[t])
            np.testing.assert_allclose(found.moved[place, h - 1], moved, rtol=1e-3)
            change = np.minimum(np.abs(curvatures * (x[t + h] - x[t])) / D, most)
            secants.append(np.linalg.norm(change) / np.linalg.norm(x[t + h] - x[t]))
            found_now = found.measured.smoothness[place, h - 1]
            np.testing.assert_allclose(found_now, max(secants), rtol=1e-3)


def test_the_stretch_is_the_norm_of_the_dense_hessian_over_the_scale():
    def loss(params, inputs):
        return jnp.mean(jnp.cos(inputs @ params[:4]) * jnp.tanh(inputs @ params[4:]))

    inputs = jax.random.normal(jax.random.key(1), (30, 4))
    params, scale = jax.random.normal(jax.random.key(0), (8,)), jnp.logspace(-2.0, 1.0, 8)
    dense = np.asarray(jax.jit(jax.hessian(loss))(params, inputs))
    expected = np.linalg.norm(dense / np.asarray(scale)[:, None], 2)
    np.testing.assert_allclose(make_stretch(loss)(params, scale, inputs), expected, rtol=1e-2)


def test_the_noise_of_a_horizon_is_the_largest_on_the_way():
    rule = bounds.sgdm(0.1, 0.9)
    params = jnp.zeros((4, 2))
    misses = jnp.array([[0.0, 1.0], [3.0, 4.0], [1.0, 0.0], [0.0, 6.0]])
    seen = measure.Now(params, None, params, misses)
    state = rule.make(0.0).tx.init(params[0])
    found = measure.look_back(rule, 0.1, state, seen, jnp.zeros((4, 2))).measured
    np.testing.assert_allclose(found.noise, [5.0, 5.0, 6.0])
    np.testing.assert_allclose(found.largest_noise, [4.0, 4.0, 6.0])


def test_a_bound_is_useful_where_it_is_below_the_distance_moved(complete):
    rows = read_table(complete, "What the bounds are worth")
    records = read_records(complete)
    for place, row in enumerate(rows):
        seeds = records[2 * place :][:2]
        for at, horizon in ((5, 0), (6, -1)):
            below = [
                np.array(r["bounds"][VISITED])[:, horizon] < np.array(r["moved"])[:, horizon]
                for r in seeds
            ]
            assert row[at] == f"{100 * np.mean(below):.0f} %"
    assert len({row[5] for row in rows}) > 1


def test_rounds_shorter_than_what_is_judged_are_refused(capsys):
    assert main(["error-bound", "--every", "5"]) == 2
    assert "--every 5 is less than the 10 steps ahead that are judged" in capsys.readouterr().err


def test_where_the_hessian_is_not_finite_its_stretch_is_not():
    stretch = make_stretch(lambda params, _: jnp.sum(params**3))
    assert np.isnan(stretch(jnp.full((30,), jnp.nan), jnp.ones(30), None))


@pytest.mark.parametrize(
    ("options", "none"),
    [
        ("--optimizers sgdm --sgdm-rate 1e30", "–"),  # diverges
        ("--optimizers adam --adam-rate 1e-30", "none"),  # in float32 nothing moves
    ],
)
def test_where_nothing_is_known_the_page_says_so(run_on_quadratic, options, none):
    options += " --ahead 1 --points 2 --every 2 --seeds 1"
    status, folder = run_on_quadratic(f"error-bound {options}", work)
    assert status == 0
    first, *_ = read_table(folder, "What the bounds are worth")
    assert first[3] == "–", "no distance moved"
    assert ("–" in first[4:]) == (none == "–"), "how often a bound is below what is not known"
    visited = read_table(
        folder, "Bound over actual error, with the smoothness of the places visited"
    )
    assert {row[3] for row in visited} == {"none"}
    assert "nan" not in (folder / "report.md").read_text()
