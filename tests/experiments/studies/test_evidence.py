"""The command ``report``, mostly on results made up for the test."""

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import PROTOCOL, ROW, made_up, pretend, run_sweep
from scipy import stats

import experiments
from experiments.cli import main
from experiments.errors import UsageError
from experiments.studies.evidence import plots
from experiments.studies.evidence.ask import REGISTERED
from experiments.studies.evidence.effects import (
    QUESTIONS,
    answers,
    area_effects,
    area_over_rates,
    effect,
    effects_in,
    performance_profile,
)
from experiments.studies.evidence.page import write_report
from experiments.studies.evidence.planned import reported_specs
from experiments.studies.evidence.rows import read_rows
from experiments.studies.evidence.summaries import summarize_row
from experiments.studies.evidence.tables import study_table
from experiments.training.result import (
    DIVERGED,
    read_results,
)

RESULTS = Path(experiments.__file__).parent / "results" / "evidence"


@pytest.fixture
def summary(tmp_path):
    file = tmp_path / "made-up.jsonl"
    run_sweep(ROW, pretend, file)
    results, _ = read_results([file])
    return summarize_row(ROW, PROTOCOL, {result.spec.key: result for result in results})


def test_the_test_metric_is_read_at_the_best_epoch_on_validation(summary):
    assert summary.arm("plain").values == {0: 79.0, 1: 80.0, 2: 81.0}
    assert summary.target == 81.0
    assert summary.arm("s=1").gradients_to_target == {0: 20, 1: 20, 2: 20}
    assert summary.arm("plain").gradients_to_target == {1: 20, 2: 20}


def noisy(spec, gains):
    """The plain arm ends at 80, others above it by a gain that is not the same for all seeds."""
    top = 80 + 0.1 * (spec.seed % 3) + gains.get(spec.arm, 0.0) * (1 + 0.1 * (spec.seed % 2))
    return made_up(spec, [top - 10, top])


def row_of(gains, **changes):
    """A row with these gains, summarized."""
    row = dataclasses.replace(ROW, arms=tuple(gains), learning_rates=(0.1,), **changes)
    specs = [spec for arm in row.arms for spec in reported_specs(row, (0.1,), arm)]
    return summarize_row(row, PROTOCOL, {spec.key: noisy(spec, gains) for spec in specs})


GAINS = {"plain": 0.0, "nesterov": 0.5, "s=1": 1.0, "s=2": 0.0}


def test_effects_are_paired_and_in_percent():
    found = {one.arm: one for one in effects_in(row_of(GAINS, seeds=(0, 1, 2, 3, 4)))}
    plain = np.array([79, 79.1, 79.2, 79, 79.1])
    gain = np.array([1.0, 1.1, 1.0, 1.1, 1.0])
    expected = stats.ttest_rel(plain + gain, plain)
    one = found["s=1"]
    np.testing.assert_allclose(one.improvement.mean, 100 * gain.mean() / plain.mean())
    low = 100 * expected.confidence_interval().low / plain.mean()
    np.testing.assert_allclose(one.improvement.mean - one.improvement.half_width, low)
    np.testing.assert_allclose(one.p_value, 3 * expected.pvalue, rtol=1e-6)  # the least of three
    assert [found[arm].verdict for arm in found] == ["better", "better", "undecided"]
    assert found["s=2"].p_value == 1


def test_a_lower_metric_is_an_improvement_where_lower_is_better():
    summary = dataclasses.replace(row_of(GAINS), higher_is_better=False)
    assert {one.arm: one.verdict for one in effects_in(summary)}["s=1"] == "worse"


def test_every_question_has_a_table_that_its_p_values_are_adjusted_for():
    rows = [
        row_of({**GAINS, "s=1": gain}, name=f"row {gain}", seeds=range(5)) for gain in (1.0, -2.0)
    ]
    tables = {(q.what, q.reference): answers(rows, q) for q in QUESTIONS}
    assert {key: len(table) for key, table in tables.items()} == {
        ("Prediction", "plain"): 4,
        ("Prediction", "nesterov"): 4,
        ("Nesterov/NAdam", "plain"): 2,
    }
    plain = tables["Prediction", "plain"]
    assert [one.verdict for one in plain] == ["better", "undecided", "worse", "undecided"]
    alone = [effect(rows[0], rows[0].arm("s=1"), rows[0].arm("plain")).p_value]
    assert max(alone) < plain[0].p_value <= 4 * max(alone) * (1 + 1e-9)


def test_a_seed_that_diverged_counts_as_the_worst_run_of_its_row():
    """It neither drops out nor makes its arm better than it is."""
    row = dataclasses.replace(ROW, arms=("plain", "s=1"), learning_rates=(0.1,), seeds=range(5))
    specs = [spec for arm in row.arms for spec in reported_specs(row, (0.1,), arm)]
    runs = {spec.key: noisy(spec, GAINS) for spec in specs}
    whole = summarize_row(row, PROTOCOL, runs)
    lost = next(spec for spec in specs if (spec.arm, spec.seed) == ("s=1", 2))
    worst = 80 - 10 - 1  # the plain arm at seed 0 after its first epoch; tests are 1 below
    for curve in ([None], [95.0, None]):
        found = summarize_row(row, PROTOCOL, {**runs, lost.key: made_up(lost, curve, DIVERGED)})
        assert found.arm("s=1").values == {**whole.arm("s=1").values, 2: worst}
        assert (found.arm("s=1").lost, found.arm("plain").lost) == (1, 0)
        (one,) = effects_in(found)
        assert one.improvement.mean < 0
        assert one.verdict == "undecided"


def test_seeds_without_the_target_count_with_all_of_their_gradients(summary):
    assert summary.arm("plain").gradients_spent == {0: 30, 1: 20, 2: 20}
    text = study_table(summary).markdown()
    assert "| ≥ 23.3 (2 of 3) |" in text
    assert "| 20 |" in text


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


def test_profiles_count_what_is_solved_within_a_factor(summary):
    shares = performance_profile([summary], ["plain", "s=1"], np.array([1.0, 2.0]))
    np.testing.assert_allclose(shares["s=1"], 1.0)
    np.testing.assert_allclose(shares["plain"], 2 / 3)


def test_the_area_over_rates_is_the_mean_in_the_logarithm():
    row = dataclasses.replace(ROW, arms=("plain",), learning_rates=(0.01, 0.1, 1.0), seeds=(0, 1))
    results = {
        spec.key: made_up(spec, [1 + 100 * spec.learning_rate])
        for spec in reported_specs(row, row.learning_rates, "plain")
    }
    arms = summarize_row(row, PROTOCOL, results).arms
    assert area_over_rates(arms) == {
        0: pytest.approx((1 / 2 + 10 + 100 / 2) / 2),
        1: pytest.approx(30.25),
    }
    assert area_over_rates(arms[:1]) == {}


def test_a_seed_that_diverges_at_a_rate_has_an_area_all_the_same():
    row = dataclasses.replace(
        ROW, arms=("plain", "s=1"), learning_rates=(0.05, 0.1, 0.2), seeds=range(5)
    )
    specs = [spec for arm in row.arms for spec in reported_specs(row, row.learning_rates, arm)]

    def run(spec):
        if (spec.arm, spec.learning_rate) == ("s=1", 0.2) and spec.seed < 3:
            return made_up(spec, [None], DIVERGED)
        return noisy(spec, {})

    summary = summarize_row(row, PROTOCOL, {spec.key: run(spec) for spec in specs})
    (one,) = area_effects(summary)
    lost = 80 + 0.1 * np.array([0, 1, 2]) - 1 - 69  # of a quarter of the grid
    whole = np.mean([79, 79.1, 79.2, 79, 79.1])
    np.testing.assert_allclose(one.improvement.mean, -100 * lost.sum() / 4 / 5 / whole)


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
        "s=1 against the plain optimizer, 1 main rows: 1 better, 0 worse, 0 undecided, by Holm",
        "s=1 against Nesterov/NAdam, 1 main rows: 1 better",
        "nesterov against the plain optimizer, 1 main rows: 1 better",
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
