"""The command ``prediction-error``, end to end on a problem that compiles in no time."""

import numpy as np
import pytest
from run_files import read_meta, read_records, read_table

from experiments.cli import main
from experiments.studies.prediction_error import work
from experiments.studies.prediction_error.ask import PREDICTORS, Config

FILES = {"report.md", "errors.png", "runs.jsonl", "meta.json"}


@pytest.fixture(scope="module")
def run(known_regression, tmp_path_factory):
    """Runs the command on the regression task; returns the exit status and the run folder."""

    def run(arguments):
        folder = tmp_path_factory.mktemp("prediction-error") / "run"
        options = "--task regression --seeds 2 --epochs 2 --ahead 1 3"
        return main(f"prediction-error {options} {arguments} --output {folder}".split()), folder

    return run


@pytest.fixture(scope="module")
def complete(run):
    status, folder = run("--optimizers adam rmsprop --trained-with 0 1")
    assert status == 0
    return folder


@pytest.fixture(scope="module")
def interrupted(run):
    """Ctrl-C comes in the second arm; the first has diverged."""
    finished = []

    def measure(*arguments):
        if finished:
            raise KeyboardInterrupt
        finished.extend(original(*arguments))
        return finished

    original = work.measure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "measure", measure)
        status, folder = run(
            "--optimizers sgdm adam --predictors last-update --learning-rates 1e30"
        )
    assert status == 130
    return folder


def test_a_run_leaves_every_combination_that_exists(complete):
    assert {path.name for path in complete.iterdir()} == FILES
    assert (complete / "errors.png").read_bytes().startswith(b"\x89PNG")
    records = read_records(complete)
    found = [(r["optimizer"], r["predictor"], r["s"], r["seed"]) for r in records]
    assert found == [
        (optimizer, predictor, s, seed)
        for optimizer in ("adam", "rmsprop")
        for predictor in PREDICTORS
        for s in (0.0, 1.0)
        for seed in (0, 1)
        if (optimizer, predictor) != ("rmsprop", "closed-form")
    ]
    assert np.shape([r["relative_error"] for r in records]) == (len(records), 2, 2)


def test_the_page_shows_what_the_records_say(complete):
    records = read_records(complete)
    for heading, name in (("Relative error", "relative_error"), ("Cosine", "cosine")):
        rows = read_table(complete, heading)
        assert len(rows) == 10
        values = np.mean([r[name] for r in records[:2]], axis=(0, 1))
        for cell, value in zip(rows[0][3:], values, strict=True):
            assert abs(float(cell.split(" ")[0]) - value) < 0.005 + 0.05 * abs(value)
    course = read_table(complete, "Relative error in the course of training")
    first, last = np.mean([r["relative_error"] for r in records[:2]], axis=0)
    expected = [first[0], last[0], first[1], last[1]]
    found = [float(cell.split(" ")[0]) for cell in course[0][3:7]]
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_meta_keeps_the_configuration(complete):
    meta = read_meta(complete)
    assert (meta["status"], meta["arms_finished"], meta["arms_planned"]) == ("complete", 10, 10)
    assert meta["configuration"] == {
        "task": "regression",
        "learning_rates": {"adam": 0.05, "rmsprop": 0.05},
        "learning_rate_origin": "made up",
        "predictors": list(PREDICTORS),
        "trained_with": [0, 1],
        "horizons": [1, 3],
        "seeds": [0, 1],
        "epochs": 2,
        "batch_size": 8,
    }


def test_with_zero_gradients_nothing_is_left_to_predict_for_rmsprop(complete):
    records = [
        record
        for record in read_records(complete)
        if (record["optimizer"], record["predictor"], record["s"])
        == ("rmsprop", "zero-gradient", 0)
    ]
    assert len(records) == 2
    for record in records:
        np.testing.assert_allclose(record["relative_error"], 1.0, rtol=1e-6)
        np.testing.assert_array_equal(record["cosine"], 0.0)


def test_arms_trained_with_zero_follow_the_same_trajectory(complete):
    losses = {}
    for record in read_records(complete):
        if record["s"] == 0:
            key = record["optimizer"], record["seed"]
            losses.setdefault(key, set()).add(record["validation_loss"])
    assert len(losses) == 4
    assert all(len(found) == 1 for found in losses.values())


def test_divergence_is_written_and_shown(interrupted):
    assert read_records(interrupted)[0]["validation_loss"] is None
    assert "diverged" in (interrupted / "report.md").read_text()


def test_ctrl_c_keeps_the_finished_arms(interrupted):
    assert {record["optimizer"] for record in read_records(interrupted)} == {"sgdm"}
    assert "**Interrupted:** 1 of 2 arms finished." in (interrupted / "report.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--predictors nesterov", "unknown predictor 'nesterov'; valid: closed-form, last-update"),
        ("--ahead 0", "--ahead: '0' is not a whole number from 1"),
        ("--trained-with -1", "--trained-with: '-1' is not a number of steps, 0 or more"),
        ("--optimizers sgdm --learning-rates adam=1", "unknown optimizer 'adam'; valid: sgdm"),
    ],
)
def test_bad_usage_is_one_line(options, message, capsys):
    assert main(["prediction-error", *options.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_configuration_drops_what_does_not_exist():
    config = Config(learning_rates={"rmsprop": 1e-3}, trained_with=(0.0,))
    assert [arm.predictor for arm in config.items()] == ["last-update", "zero-gradient"]
