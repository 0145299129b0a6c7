"""The command ``report``, mostly on results made up for the test."""

import dataclasses
import json
import os
import re
from pathlib import Path

import pytest
from made_up_runs import GAINS, ROW, made_up, pretend, row_of, run_sweep

import experiments
from experiments.cli import main
from experiments.errors import UsageError
from experiments.statistics import Interval
from experiments.studies.evidence import plots
from experiments.studies.evidence.ask import REGISTERED
from experiments.studies.evidence.effects import (
    compare,
)
from experiments.studies.evidence.page import write_report
from experiments.studies.evidence.rows import read_rows
from experiments.studies.evidence.tables import percent
from experiments.training.result import (
    DIVERGED,
)

RESULTS = Path(experiments.__file__).parent / "results" / "evidence"


def test_a_row_and_its_repetition_stand_beside_each_other(tmp_path):
    rows = [
        dataclasses.replace(ROW, name="made-up"),
        dataclasses.replace(
            ROW, name="made-up-again", study="again", seeds=(5, 6, 7), tuning_seeds=(7000, 7001)
        ),
    ]
    for row in rows:
        run_sweep(row, pretend, tmp_path / f"{row.name}.jsonl")
    write_report(tmp_path, tmp_path, rows)
    text = (tmp_path / "README.md").read_text()
    assert "made-up and the same with other seeds, against the plain optimizer in percent:" in text
    heading = (
        "| arm | rate | test accuracy | against plain [%] | rate, again | test accuracy, again"
    )
    assert heading in text


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(1.004, 0.126), "+1.00 ± 0.13"),
        (Interval(-0.004, 0.5), "+0.00 ± 0.50"),
        (Interval(-12.3, 4.0), "-12.30 ± 4.00"),
    ],
)
def test_changes_are_written_to_a_hundredth_of_a_percent(interval, text):
    assert percent(interval) == text


def test_a_decided_effect_is_filled_in_the_forest(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, file: drawn.append((file.name, figure)))
    plots.plot_comparison(tmp_path, compare("main", [row_of(GAINS, seeds=range(5))]))
    (forest,) = [figure for name, figure in drawn if name == "forest-main.png"]
    filled = [
        line.get_markerfacecolor() != "white"
        for axes in forest.axes
        for line in axes.lines
        if line.get_marker() == "o"
    ]
    plain, nesterov, baseline = [True, False], [True, True], [True]  # s=1 and s=2, then Nesterov
    assert filled == [*plain, *nesterov, *baseline]


def test_report_writes_tables_and_plots(tmp_path):
    rows = [
        ROW,
        dataclasses.replace(
            ROW, name="by-horizon", study="horizon", learning_rates=(0.1,), arms=("plain", "s=1")
        ),
        dataclasses.replace(
            ROW,
            name="by-rate",
            study="robustness",
            learning_rates=(0.05, 0.1),
            arms=("plain", "s=1"),
        ),
        dataclasses.replace(
            ROW, name="never-run", task="digits", optimizer="yogi", arms=("plain",)
        ),
    ]
    for row in rows[:3]:
        run_sweep(row, pretend, tmp_path / f"{row.name}.jsonl")
    output = tmp_path / "report"
    write_report(tmp_path, output, rows)
    names = {
        "README.md",
        "tables.tex",
        "forest-main.png",
        "horizon.png",
        "robustness.png",
        "curves-made-up.png",
    }
    assert names <= {path.name for path in output.iterdir()}
    text = (output / "README.md").read_text()
    for line in (
        "s=1 against the plain optimizer, 1 main row: 1 better, 0 worse, 0 undecided, by Holm",
        "s=1 against Nesterov/NAdam, 1 main row: 1 better",
        "nesterov against the plain optimizer, 1 main row: 1 better",
        "Mean test accuracy over 2 rates, by-rate: plain",
    ):
        assert line in text
    assert "| never-run | main | digits | cpu | yogi | plain | 3 | 3 seeds | 0 of 12 |  |" in text
    assert "ms per step" not in text
    latex = (output / "tables.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 6
    assert r"\pm" in latex
    with pytest.raises(UsageError, match="no results"):
        write_report(tmp_path / "nowhere", output, rows)


OTHERS = {
    "forest": dataclasses.replace(ROW, arms=("plain", "s=1"), seeds=(0,)),
    "profiles": dataclasses.replace(ROW, arms=("plain", "s=1")),
    "only plain": dataclasses.replace(ROW, arms=("plain",)),
    "horizon": dataclasses.replace(ROW, study="horizon"),
    "robustness": dataclasses.replace(ROW, study="robustness", learning_rates=(0.05, 0.1, 0.2)),
}


def diverged(spec):
    return made_up(spec, [None], DIVERGED)


def failed(spec):
    raise RuntimeError("out of memory")


@pytest.mark.parametrize("run", [pretend, diverged, failed])
@pytest.mark.parametrize("row", OTHERS.values(), ids=list(OTHERS))
def test_a_report_shows_only_what_there_is(tmp_path, monkeypatch, row, run):
    """Of a table of one's own, also of runs that came to nothing."""
    monkeypatch.setattr(plots, "_save", lambda figure, file: file.touch())
    run_sweep(row, run, tmp_path / "made-up.jsonl")
    write_report(tmp_path, tmp_path, [row])
    text = (tmp_path / "README.md").read_text()
    shown = set(re.findall(r"\]\((.*\.png)\)", text))
    assert shown == {path.name for path in tmp_path.glob("*.png")}
    for other in ("CIFAR", "PTB", "sam-equal"):
        assert other not in text
    assert "\n\n\n" not in text
    (tmp_path / "caveats.md").write_text("The photographs\nare blurred.\n")
    write_report(tmp_path, tmp_path, [row])
    assert "\n\nThe photographs are blurred.\n\n" in (tmp_path / "README.md").read_text()


@pytest.mark.skipif(not list(RESULTS.glob("*.jsonl")), reason="no committed results")
def test_the_committed_report_is_what_the_committed_results_say(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "_save", lambda figure, file: file.touch())  # which takes a while
    write_report(RESULTS, tmp_path, read_rows(REGISTERED))
    for name in ("README.md", "tables.tex"):
        assert (tmp_path / name).read_text() == (RESULTS / name).read_text(), name
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names == {path.name for path in RESULTS.glob("*.png")}


def test_sweep_and_report_run_from_the_command_line(tmp_path, monkeypatch, capsys):
    table = tmp_path / "rows.toml"
    fields = {
        "name": "short",
        "study": "main",
        "task": "digits",
        "preset": "cpu",
        "optimizer": "sgdm",
        "arms": ["plain", "s=1"],
        "seeds": [0, 1],
        "learning_rates": [0.1],
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    table.write_text("[[row]]\n" + "\n".join(lines) + "\n")
    options = ["--table", str(table)]
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "evidence"
    assert main(["sweep", *options, "--dry-run"]) == 0
    assert "1 rows, at least 4 runs" in capsys.readouterr().out
    assert main(["sweep", *options]) == 0
    error = capsys.readouterr().err
    assert re.search(
        r"^digits sgdm s=1 rate 0\.1 seed 1: finished; test accuracy \S+ at epoch", error, re.M
    )
    assert "4 runs done" in error
    assert main(["report", *options]) == 0
    assert (folder / "forest-main.png").exists()
    assert main(["sweep", *options, "--rows", "long"]) == 2
    assert os.listdir(folder)
