"""The command ``batch-norm``, one small run on digits."""

import numpy as np
import pytest
from run_files import read_meta, read_records

from experiments.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batch-norm") / "run"
    options = "--optimizers sgdm --horizons 1 --momenta 0.5 --seeds 2 --epochs 2"
    assert main(["batch-norm", *options.split(), "--output", str(folder)]) == 0
    return folder


def test_a_run_evaluates_each_epoch_with_both_statistics(folder):
    records = read_records(folder)
    assert [(r["optimizer"], r["s"], r["momentum"], r["seed"]) for r in records] == [
        ("sgdm", 1.0, 0.5, 0),
        ("sgdm", 1.0, 0.5, 1),
    ]
    for record in records:
        losses = np.array([record["running_loss"], record["recalibrated_loss"]])
        assert losses.shape == (2, 2)
        assert np.isfinite(losses).all()
        assert not np.array_equal(*losses)
        assert record["recalibrated_accuracy"][-1] > 30, "it has learnt, and knows its statistics"
    meta = read_meta(folder)
    assert meta["status"] == "complete"
    assert meta["configuration"] == {
        "optimizers": ["sgdm"],
        "horizons": [1.0],
        "momenta": [0.5],
        "seeds": [0, 1],
        "epochs": 2,
        "batch_size": 32,
    }


def test_report_shows_the_paired_difference(folder):
    records = read_records(folder)
    accuracy = np.mean([r["running_accuracy"][-1] for r in records])
    text = (folder / "report.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| sgdm | 0.5 | s=1 | 2 |"))
    assert float(row.split("|")[5].split()[0]) == pytest.approx(accuracy, abs=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--momenta 1", "--momenta: '1' is not a momentum from 0 to below 1"),
        ("--optimizers lamb", "unknown optimizer 'lamb'; valid: sgdm, adam"),
    ],
)
def test_bad_usage_is_one_line(options, message, capsys):
    assert main(["batch-norm", *options.split()]) == 2
    assert message in capsys.readouterr().err
