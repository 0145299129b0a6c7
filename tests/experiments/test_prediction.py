"""The command ``prediction-error``, end to end on a problem that compiles in no time."""

import numpy as np
import pytest
from run_files import read_meta, read_records, read_table

import experiments.prediction.run
from experiments.cli import main
from experiments.prediction.config import PREDICTORS, PredictionErrorConfig
from experiments.prediction.measure import measure

FILES = {"report.md", "errors.png", "runs.jsonl", "meta.json"}


@pytest.fixture
def run(regression, monkeypatch, tmp_path):
    monkeypatch.setattr("experiments.prediction.cli.load_task", lambda name: regression)
    folder = tmp_path / "run"

    def run(arguments=""):
        options = "--seeds 2 --epochs 2 --ahead 1 3"
        command = f"prediction-error {options} {arguments} --output {folder}"
        return main(command.split()), folder

    return run


def test_a_run_leaves_every_combination_that_exists(run):
    status, folder = run("--optimizers sgdm rmsprop --trained-with 0 1")
    assert status == 0
    assert {path.name for path in folder.iterdir()} == FILES
    assert (folder / "errors.png").read_bytes().startswith(b"\x89PNG")
    records = read_records(folder)
    found = [(r["optimizer"], r["predictor"], r["s"], r["seed"]) for r in records]
    assert found == [
        (optimizer, predictor, s, seed)
        for optimizer in ("sgdm", "rmsprop")
        for predictor in PREDICTORS
        for s in (0.0, 1.0)
        for seed in (0, 1)
        if (optimizer, predictor) != ("rmsprop", "closed-form")
    ]
    assert np.shape([r["relative_error"] for r in records]) == (len(records), 2, 2)
    assert read_meta(folder)["status"] == "complete"
    rows = read_table(folder, "Relative error")
    assert len(rows) == 10
    errors = np.mean([r["relative_error"] for r in records[:2]], axis=(0, 1))
    for cell, error in zip(rows[0][3:], errors, strict=True):
        assert abs(float(cell.split(" ")[0]) - error) < 0.005 + 0.05 * error


def test_with_zero_gradients_nothing_is_left_to_predict_for_rmsprop(run):
    _, folder = run("--optimizers rmsprop --predictors zero-gradient")
    for record in read_records(folder):
        np.testing.assert_allclose(record["relative_error"], 1.0, rtol=1e-6)
        np.testing.assert_array_equal(record["cosine"], 0.0)


def test_arms_trained_with_zero_follow_the_same_trajectory(run):
    _, folder = run("--optimizers adam")
    losses = {}
    for record in read_records(folder):
        losses.setdefault(record["seed"], set()).add(record["validation_loss"])
    assert all(len(found) == 1 for found in losses.values())


def test_divergence_is_written_and_shown(run):
    _, folder = run("--optimizers sgdm --predictors last-update --learning-rates 1e30")
    assert read_records(folder)[0]["validation_loss"] is None
    assert "diverged" in (folder / "report.md").read_text()


def test_ctrl_c_keeps_the_finished_arms(run, monkeypatch):
    finished = []

    def interrupted(*arguments):
        if finished:
            raise KeyboardInterrupt
        finished.extend(measure(*arguments))
        return finished

    monkeypatch.setattr(experiments.prediction.run, "measure", interrupted)
    status, folder = run("--optimizers sgdm adam --predictors last-update")
    assert status == 130
    assert {record["optimizer"] for record in read_records(folder)} == {"sgdm"}
    assert "**Interrupted:** 1 of 2 arms finished." in (folder / "report.md").read_text()


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


def test_list_names_the_predictors(capsys):
    assert main(["list"]) == 0
    assert all(name in capsys.readouterr().out for name in ("closed-form",))


def test_configuration_drops_what_does_not_exist():
    config = PredictionErrorConfig(
        task="digits",
        learning_rates={"rmsprop": 1e-3},
        learning_rate_origin="",
        predictors=tuple(PREDICTORS),
        trained_with=(0.0,),
        horizons=(1,),
        seeds=(0,),
        epochs=1,
        batch_size=1,
    )
    assert [arm.predictor for arm in config.arms()] == ["last-update", "zero-gradient"]
