"""The command ``moments``: what it measures against a loop in NumPy, and a small run end to end."""

import jax.numpy as jnp
import numpy as np
import pytest
from run_files import read_meta, read_records, read_table

from experiments.cli import main
from experiments.problems import Problem
from experiments.studies.moments import work
from experiments.studies.moments.ask import BESIDE_PLAIN, MEASURED, QUANTITIES, Arm, Config

FILES = {"report.md", "moments.png", "runs.jsonl", "meta.json"}
OF_ADAM = {"root_second", "root_second_agreement", "signal"}
BATCH = 4
INPUTS = np.random.default_rng(0).normal(size=(28, 3)) * [1.0, 3.0, 0.3]
LABELS = (INPUTS @ [1.0, -0.5, 2.0] + np.random.default_rng(1).normal(size=28) > 0).astype(float)
START = np.array([0.5, 1.0, -1.0])


def chances(theta, rows):
    return 1 / (1 + np.exp(-INPUTS[rows] @ theta))


def gradient_of(theta, rows=slice(None)):
    return INPUTS[rows].T @ (chances(theta, rows) - LABELS[rows]) / len(INPUTS[rows])


def hessian_of(theta):
    chance = chances(theta, slice(None))
    return INPUTS.T @ np.diag(chance * (1 - chance)) @ INPUTS / len(INPUTS)


def loss_of(theta):
    chance = chances(theta, slice(None))
    return -np.mean(LABELS * np.log(chance) + (1 - LABELS) * np.log(1 - chance))


def loop(optimizer, rate, s, steps):
    """Yields θ, g, m, √v̂ and d after each step, straight from the formulas."""
    theta, velocity, second, d = START, np.zeros(3), np.zeros(3), np.zeros(3)
    for step in range(steps):
        rows = np.arange(BATCH) + BATCH * (step % (len(INPUTS) // BATCH))
        g = gradient_of(theta + s * d, rows)
        if optimizer == "sgdm":
            velocity = 0.9 * velocity + g
            m, root, d = velocity, None, -rate * velocity
        else:
            velocity = 0.9 * velocity + 0.1 * g
            second = 0.999 * second + 0.001 * g**2
            m = velocity / (1 - 0.9 ** (step + 1))
            root = np.sqrt(second / (1 - 0.999 ** (step + 1)))
            d = -rate * m / (root + 1e-8)
        theta = theta + d
        yield theta, g, m, root, d


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def expected(optimizer, rate, s, steps):
    """All quantities after each step from the 11th on."""
    ours, plain = (list(loop(optimizer, rate, horizon, steps)) for horizon in (s, 0))
    for at in range(10, steps):
        theta, g, m, root, d = ours[at]
        found = {
            "loss": loss_of(theta),
            "gradient": np.linalg.norm(g),
            "full_gradient": np.linalg.norm(gradient_of(theta)),
            "first": np.linalg.norm(m),
            "downhill": cosine(m, gradient_of(theta)),
            "persistence": cosine(m, ours[at - 10][2]),
            "curvature": d @ hessian_of(theta) @ d / (d @ d),
            "first_agreement": cosine(m, plain[at][2]),
            "update": np.linalg.norm(d),
        }
        if optimizer == "adam":
            found["root_second"] = np.linalg.norm(root)
            found["signal"] = np.linalg.norm(m) / np.linalg.norm(root)
            found["root_second_agreement"] = cosine(root, plain[at][3])
        yield found


@pytest.fixture
def logistic(monkeypatch):
    """A loss whose Hessian changes, with batches in the order of the examples."""

    def loss(theta, examples):
        inputs, labels = examples
        logits = inputs @ theta
        return jnp.mean(jnp.logaddexp(0, logits) - labels * logits)

    def in_order(key, examples, batch_size):
        return jnp.arange(examples).reshape(-1, batch_size)

    monkeypatch.setattr(work, "epoch_batches", in_order)
    examples = jnp.asarray(INPUTS, jnp.float32), jnp.asarray(LABELS, jnp.float32)
    init = lambda key: jnp.asarray(START, jnp.float32)  # noqa: E731
    return Problem("logistic", examples, examples, init, loss, BATCH)


@pytest.mark.parametrize(("optimizer", "rate"), [("sgdm", 0.2), ("adam", 0.1)])
def test_what_is_measured_is_what_the_formulas_say(logistic, optimizer, rate):
    run = work.make_run(logistic, optimizer, Config(epochs=3, every=1))
    for s in (0.0, 1.5):
        measured = run(Arm(optimizer, rate, s), 0)
        wanted = list(expected(optimizer, rate, s, steps=21))
        assert set(measured) == set(wanted[0])
        for name, values in measured.items():
            by_hand = [step[name] for step in wanted]
            np.testing.assert_allclose(values[10:], by_hand, rtol=2e-4, atol=2e-6, err_msg=name)


def test_measuring_less_often_changes_nothing_else(logistic):
    often, seldom = (
        work.make_run(logistic, "adam", Config(epochs=2, every=every))(Arm("adam", 0.1, 1.0), 0)
        for every in (1, 3)
    )
    for name in QUANTITIES:
        assert len(seldom[name]) == 4, "of 14 steps the last two are left over"
        np.testing.assert_allclose(seldom[name], often[name][2:12:3], rtol=1e-5, err_msg=name)


def test_an_epoch_is_its_mean_and_for_ratios_the_geometric_one():
    names = ("loss", "downhill", "persistence")
    measured = {name: np.array([1.0, 2.0, 4.0, 8.0, 2.0, np.inf]) for name in names}
    found = work.by_epoch(measured, every=4, steps=8)
    assert found == {
        "loss": [pytest.approx(2**0.5), pytest.approx(32**0.5), None],
        "downhill": [1.5, 6.0, None],
        "persistence": [None, 6.0, None],
    }


@pytest.fixture(scope="module")
def complete(run_on_quadratic):
    rates = "--learning-rates sgdm=0.2 adam=0.1 --factors 1 0.5"
    status, folder = run_on_quadratic(f"moments {rates} --seeds 3 --epochs 5 --every 2", work)
    assert status == 0
    return folder


def test_a_run_leaves_every_arm_at_every_seed(complete):
    assert {path.name for path in complete.iterdir()} == FILES
    assert (complete / "moments.png").read_bytes().startswith(b"\x89PNG")
    records = read_records(complete)
    assert [(r["optimizer"], r["learning_rate"], r["s"], r["seed"]) for r in records] == [
        (optimizer, rate, s, seed)
        for optimizer, rates in (("sgdm", (0.2, 0.1)), ("adam", (0.1, 0.05)))
        for rate in rates
        for s in (0, 1, 3)
        for seed in (0, 1, 2)
    ]
    for record in records:
        for name in QUANTITIES:
            if record["optimizer"] == "sgdm" and name in OF_ADAM:
                assert record[name] is None
            else:
                unknown = 2 if name == "persistence" else 0  # the first ten steps
                assert [value is None for value in record[name]] == [
                    epoch < unknown for epoch in range(5)
                ], name


def test_plain_agrees_with_itself_and_curvatures_are_those_of_the_problem(complete):
    for record in read_records(complete):
        assert all(0.499 < curvature < 5.001 for curvature in record["curvature"])
        if record["s"] == 0:
            np.testing.assert_allclose(record["first_agreement"], 1, rtol=1e-6)


def test_prediction_takes_the_steep_directions_out_of_the_velocity(complete):
    """γh of the steepest is 1: plain swings there, s=1 hardly."""
    late = {
        s: np.mean(
            [
                record["curvature"][-1]
                for record in read_records(complete)
                if (record["optimizer"], record["learning_rate"]) == ("sgdm", 0.2)
                and record["s"] == s
            ]
        )
        for s in (0, 1)
    }
    assert late[1] < late[0]


def test_the_page_compares_with_plain_seed_by_seed(complete):
    records = read_records(complete)
    plain, ours = (np.array([r["first"] for r in records[3 * at :][:3]]) for at in (0, 1))
    rows = read_table(complete, "Along training")
    assert [row[1:3] for row in rows[:9]] == [
        [epoch, s] for epoch in ("1", "3", "5") for s in ("s=0", "s=1", "s=3")
    ]
    column = 3 + list(MEASURED).index("first")
    assert rows[6][column] == f"{np.exp(np.log(plain[:, -1]).mean()):.3g}"
    ratio = np.exp(np.mean(np.log(ours[:, -1] / plain[:, -1])))
    assert abs(float(rows[7][column].split()[0]) - ratio) <= 0.0051
    plain, ours = (np.array([r["downhill"] for r in records[3 * at :][:3]]) for at in (0, 1))
    difference = np.mean(ours[:, -1] - plain[:, -1])
    shown = rows[7][3 + list(MEASURED).index("downhill")]
    assert abs(float(shown.split(" ±")[0]) - difference) < 0.06
    assert rows[0][3 + list(MEASURED).index("persistence")] == "–", "not known in ten steps"
    assert "All rows show values" not in (complete / "report.md").read_text()
    beside = read_table(complete, "Beside plain at the same seed and step")
    assert {row[2] for row in beside} == {"s=1", "s=3"}
    assert beside[0][3 + list(BESIDE_PLAIN).index("signal")] == "–", "SGDM has no second moment"
    assert beside[-1][3 + list(BESIDE_PLAIN).index("signal")] != "–"


def test_meta_keeps_the_configuration(complete):
    meta = read_meta(complete)
    assert (meta["status"], meta["arms_finished"], meta["arms_planned"]) == ("complete", 12, 12)
    assert meta["configuration"] == {
        "problem": "digits",
        "examples": None,
        "horizons": [0, 1, 3],
        "learning_rates": {"sgdm": 0.2, "adam": 0.1},
        "learning_rate_origin": "given on the command line for sgdm, adam; for the rest task "
        "defaults, tuned for the plain optimizers on validation loss",
        "factors": [1, 0.5],
        "momentum": 0.9,
        "epochs": 5,
        "every": 2,
        "seeds": [0, 1, 2],
    }


def test_divergence_is_written_and_never_compared(run_on_quadratic):
    """Plain converges at this rate, and s=3 does not."""
    options = "--optimizers sgdm --horizons 0 3 --learning-rates 0.5 --factors 1 --epochs 40"
    status, folder = run_on_quadratic(f"moments {options} --seeds 2", work)
    assert status == 0
    plain, diverged = read_records(folder)[::2]
    assert plain["loss"][-1] is not None
    assert diverged["loss"][-1] is diverged["curvature"][-1] is None
    row = read_table(folder, "Along training")[-1]
    assert row[2] == "s=3"
    assert set(row[3:]) == {"–"}


def test_where_all_diverge_at_once_there_still_is_a_page(run_on_quadratic):
    options = "--optimizers sgdm --learning-rates 1e30 --factors 1 --epochs 1 --seeds 2"
    status, folder = run_on_quadratic(f"moments {options}", work)
    assert status == 0
    assert {path.name for path in folder.iterdir()} == FILES
    assert {cell for row in read_table(folder, "Along training") for cell in row[3:]} == {"–"}


def test_without_plain_values_are_shown(run_on_quadratic, capsys):
    options = "--optimizers adam --horizons 1 --factors 1 --epochs 1 --seeds 2"
    status, folder = run_on_quadratic(f"moments {options}", work)
    assert status == 0
    report, shown = (folder / "report.md").read_text(), capsys.readouterr().out
    assert "All rows show values: s=0 is no arm." in report
    assert "Rows of s=0" not in report
    assert "the others against it" not in shown
    values = [record["loss"][0] for record in read_records(folder)]
    assert read_table(folder, "Along training")[0][3] == f"{np.exp(np.log(values).mean()):.3g}"


def test_an_epoch_without_a_measurement_is_refused(run_on_quadratic, capsys):
    status, folder = run_on_quadratic("moments --every 6", work)
    assert status == 2
    assert "--every 6: an epoch of 40 examples has 5 steps" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--horizons -1", "--horizons: '-1' is not a number of steps, 0 or more"),
        ("--factors 0", "--factors: '0' is not a number above 0"),
        ("--optimizers rmsprop", "unknown optimizer 'rmsprop'; valid: sgdm, adam"),
        ("--optimizers sgdm --learning-rates adam=1", "unknown optimizer 'adam'; valid: sgdm"),
        ("--momentum 1", "--momentum: '1' is not a number from 0 to below 1"),
    ],
)
def test_bad_usage_is_one_line(options, message, capsys):
    assert main(["moments", *options.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_rates_are_those_of_the_task():
    config = Config(problem="cifar10", factors=(3.0, 0.25)).completed()
    rates = [(arm.optimizer, arm.learning_rate) for arm in config.items()[::3]]
    assert rates == [("sgdm", 0.03), ("sgdm", 0.0025), ("adam", 0.003), ("adam", 0.00025)]
