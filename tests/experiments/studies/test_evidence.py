"""The commands ``sweep`` and ``report``, mostly on results made up for the test."""

import dataclasses
import json
import math
import os
import re
import resource
from pathlib import Path

import numpy as np
import pytest

import experiments
from experiments.cli import main
from experiments.errors import UsageError
from experiments.folder import append_records
from experiments.studies.evidence import plots
from experiments.studies.evidence import sweep as sweeping
from experiments.studies.evidence.ask import REGISTERED
from experiments.studies.evidence.effects import (
    area_over_rates,
    bootstrap_interval,
    effects,
    performance_profile,
)
from experiments.studies.evidence.page import write_report
from experiments.studies.evidence.planned import count_runs, reported_specs
from experiments.studies.evidence.rows import Row, choose_rows, read_rows
from experiments.studies.evidence.summaries import results_for, summarize_row
from experiments.tasks import load_task
from experiments.training.result import (
    DIVERGED,
    FAILED,
    FINISHED,
    Point,
    Result,
    RunSpec,
    read_results,
)

RESULTS = Path(experiments.__file__).parent / "results" / "evidence"

# --------------------------------------------------------------------------------------------------
# Rows and sweeps
# --------------------------------------------------------------------------------------------------

ROW = Row(
    name="made-up",
    study="main",
    task="digits",
    preset="cpu",
    optimizer="sgdm",
    arms=("plain", "nesterov", "s=1"),
    seeds=(0, 1, 2),
)
PROTOCOL = load_task("digits", "cpu").protocol
SPEC = RunSpec(
    task="digits", preset="cpu", optimizer="adam", arm="plain", learning_rate=3e-3, seed=0, epochs=2
)


HERE = "0123456789ab"  # the fingerprint of the data


def made_up(spec, curve, status=FINISHED, gradients=1):
    points = [
        Point(
            epoch=epoch,
            step=10 * epoch,
            seconds=float(epoch),
            train_loss=1.0,
            validation={"accuracy": value},
            test={"accuracy": value and value - 1},
        )
        for epoch, value in enumerate(curve, 1)
    ]
    return Result(
        spec=spec,
        status=status,
        metric="accuracy",
        higher_is_better=True,
        parameters=1,
        steps=10 * len(points),
        gradients_per_step=gradients,
        points=points,
        compile_seconds=0.0,
        wall_seconds=1.0,
        step_bytes=1000,
        error=None,
        environment={
            "date": "2026-01-01T00:00:00",
            "device": {"kind": "cpu"},
            "versions": {"jax": "0", "optax": "0"},
        },
        data=HERE,
    )


def pretend(spec):
    """The better the closer the rate is to 0.1; prediction gains 2, seeds differ by 1."""
    gain = {"plain": 0.0, "nesterov": 1.0, "s=1": 2.0}[spec.arm]
    top = 80 - 10 * abs(math.log(spec.learning_rate / 0.1)) + gain + spec.seed % 7
    return made_up(spec, [top - 10, top, top - 5])


def run_sweep(row, run, file):
    """Sweeps a row; ``file`` is that of its results."""
    assert file.stem == row.name
    said = []
    sweep = sweeping.Sweep(one_by_one(run), lambda row: HERE, file.parent, said.append)
    for _ in sweep.rows([(row, PROTOCOL)]):
        pass
    return sweep.tally, said


def one_by_one(run):
    return lambda specs: [run(spec) for spec in specs]


def test_a_sweep_tunes_every_arm_then_reports_seeds_and_never_repeats(tmp_path):
    file = tmp_path / "made-up.jsonl"
    tally, said = run_sweep(ROW, pretend, file)
    assert not said
    assert tally.ran == count_runs(ROW) == 3 * (9 + 3)
    results, _ = read_results([file])
    reported = {(r.spec.arm, r.spec.learning_rate) for r in results if r.spec.seed in ROW.seeds}
    assert reported == {("plain", 0.1), ("nesterov", 0.1), ("s=1", 0.1)}
    again, _ = run_sweep(ROW, lambda spec: pytest.fail("was run twice"), file)
    assert (again.ran, again.known) == (0, 36)


def test_a_grid_goes_on_until_the_best_rate_of_each_arm_lies_inside(tmp_path):
    file = tmp_path / "made-up.jsonl"
    row = dataclasses.replace(ROW, arms=("plain", "s=1"), first_rates=(3, 4, 5))
    run_sweep(row, pretend, file)  # best at the usual rate, 2 ** 0
    results, _ = read_results([file])
    tried = sorted({r.spec.learning_rate for r in results if r.spec.arm == "s=1"})
    np.testing.assert_allclose(tried, 0.1 * 2.0 ** np.arange(-1, 6))
    by_key = {result.spec.key: result for result in results}
    found = summarize_row(row, PROTOCOL, by_key)
    assert [(arm.learning_rate, arm.inside) for arm in found.arms] == [(0.1, True)] * 2
    assert (found.done, found.planned) == (len(results), len(results))
    short = dataclasses.replace(row, most_rates=4)
    found = summarize_row(short, PROTOCOL, by_key)
    assert [arm.inside for arm in found.arms] == []  # what it chose was never reported


def test_a_grid_that_may_not_go_on_says_so(tmp_path):
    row = dataclasses.replace(ROW, arms=("plain",), first_rates=(3, 4, 5), most_rates=4)
    run_sweep(row, pretend, tmp_path / "made-up.jsonl")
    write_report(tmp_path, tmp_path, [row])
    text = (tmp_path / "README.md").read_text()
    assert "| plain | 0.2 (not inside) |" in text


def test_a_rate_is_chosen_by_the_mean_of_tuning_seeds_and_none_that_lost_one(tmp_path):
    def run(spec):
        result = pretend(spec)
        lost = spec.learning_rate == 0.1 and spec.seed == 1001
        return dataclasses.replace(result, status=DIVERGED) if lost else result

    row = dataclasses.replace(ROW, arms=("plain",))
    run_sweep(row, run, tmp_path / "made-up.jsonl")
    results, _ = read_results([tmp_path / "made-up.jsonl"])
    reported = {r.spec.learning_rate for r in results if r.spec.seed in ROW.seeds}
    assert reported == {0.05}  # as good as 0.2, and ties go to the lower


def test_a_lower_loss_is_better_where_the_metric_is_one(tmp_path):
    def run(spec):
        flipped = dataclasses.replace(pretend(spec), higher_is_better=False)
        return dataclasses.replace(
            flipped,
            points=[
                dataclasses.replace(p, validation={"accuracy": 200 - p.validation["accuracy"]})
                for p in flipped.points
            ],
        )

    row = dataclasses.replace(ROW, arms=("plain",), first_rates=(1, 2, 3))
    run_sweep(row, run, tmp_path / "made-up.jsonl")
    results, _ = read_results([tmp_path / "made-up.jsonl"])
    assert {r.spec.learning_rate for r in results if r.spec.seed in ROW.seeds} == {0.1}


def test_results_on_other_data_do_not_count(tmp_path):
    file, row = tmp_path / "made-up.jsonl", dataclasses.replace(ROW, arms=("plain",))
    run_sweep(row, lambda spec: dataclasses.replace(pretend(spec), data="f" * 12), file)
    tally, said = run_sweep(row, pretend, file)
    assert (tally.ran, tally.known) == (12, 0)
    assert said == [
        f"row made-up: 12 results of digits are on other data ({'f' * 12}, here {HERE}) and do "
        "not count"
    ]
    results, _ = read_results([file])
    assert len(results) == 24
    for data in (HERE, "f" * 12):
        of_data = results_for(dataclasses.replace(row, data=data), results)
        assert {result.data for result in of_data.values()} == {data}
        assert len(of_data) == 12


def test_a_row_on_other_data_than_what_is_here_is_refused(tmp_path):
    row = dataclasses.replace(ROW, data="f" * 12)
    tally, said = run_sweep(row, lambda spec: pytest.fail("was run"), tmp_path / "made-up.jsonl")
    assert tally.skipped == 1
    assert said == [
        f"row made-up skipped: it is on data {'f' * 12}, and what is here is {HERE}; --data-dir "
        "says where else"
    ]


def test_results_that_do_not_say_what_data_they_are_of_do_not_count(tmp_path):
    file = tmp_path / "made-up.jsonl"
    run_sweep(ROW, pretend, file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines[:2]:
        del line["data"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    results, complaints = read_results([file])
    assert len(results) == len(lines) - 2
    assert complaints == ["made-up.jsonl: 2 lines do not say what data they are of and are skipped"]


def test_a_sweep_survives_failed_and_diverged_runs(tmp_path):
    def run(spec):
        if spec.arm == "nesterov" and spec.seed == 1000:
            raise RuntimeError("out of memory")
        if spec.learning_rate > 0.15:
            return made_up(spec, [None], DIVERGED)
        return pretend(spec)

    file = tmp_path / "made-up.jsonl"
    tally, said = run_sweep(ROW, run, file)
    assert tally.failed == 9  # of as many rates as are tried at most
    assert "out of memory" in said[0]
    results, _ = read_results([file])
    assert {r.status for r in results} == {FINISHED, DIVERGED, FAILED}
    assert {r.spec.learning_rate for r in results if r.spec.arm == "s=1" and r.spec.seed < 9} == {
        0.1
    }
    tally, _ = run_sweep(ROW, pretend, file)  # what failed is tried again
    assert tally.failed == 0
    assert tally.ran >= 3


def test_rows_share_the_runs_that_they_have_in_common(tmp_path):
    run_sweep(ROW, pretend, tmp_path / "made-up.jsonl")
    wider = dataclasses.replace(ROW, name="wider", first_rates=(-1, 0, 1, 2))
    ran = []

    def run(spec):
        ran.append(spec)
        return pretend(spec)

    tally, _ = run_sweep(wider, run, tmp_path / "wider.jsonl")
    assert {spec.learning_rate for spec in ran} == {0.4}
    assert (tally.ran, tally.known) == (9, 3 * (9 + 3))
    assert len(read_results([tmp_path / "wider.jsonl"])[0]) == 9


def test_seeds_and_rates_are_run_together_as_far_as_allowed(tmp_path):
    groups = []

    def run(specs):
        groups.append([(spec.arm, spec.learning_rate, spec.seed) for spec in specs])
        return [pretend(spec) for spec in specs]

    sweep = sweeping.Sweep(run, lambda row: HERE, tmp_path, pytest.fail, at_once=8)
    assert len(list(sweep.rows([(ROW, PROTOCOL)]))) == sweep.tally.ran == 36
    plain = [group for group in groups if group[0][0] == "plain"]
    tuning = [("plain", rate, seed) for rate in (0.05, 0.1, 0.2) for seed in ROW.tuning_seeds]
    assert plain == [tuning[:5], tuning[5:], [("plain", 0.1, seed) for seed in ROW.seeds]]


def test_a_row_that_cannot_be_run_is_skipped_as_a_whole(tmp_path):
    def run(spec):
        raise UsageError("data set cifar10 is missing")

    tally, said = run_sweep(ROW, run, tmp_path / "made-up.jsonl")
    assert said == ["row made-up skipped: data set cifar10 is missing"]
    assert (tally.skipped, tally.ran, tally.failed) == (1, 0, 0)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported_and_leaves_no_half_line(tmp_path):
    file = tmp_path / "made-up.jsonl"
    append_records(file, [pretend(SPEC)])
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        tally, said = run_sweep(ROW, pretend, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert tally.unwritten == tally.ran == 36
    assert "not written" in said[0]
    assert file.read_bytes() == before


def test_corrupt_lines_are_reported_and_skipped(tmp_path):
    file = tmp_path / "made-up.jsonl"
    run_sweep(ROW, pretend, file)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1][:50], "[]", *lines[3:]]) + "\n")
    results, complaints = read_results([file, tmp_path / "missing.jsonl"])
    assert len(results) == 34
    assert [complaint.split(":")[0] for complaint in complaints] == [
        "made-up.jsonl, line 2",
        "made-up.jsonl, line 3",
        "missing.jsonl",
    ]
    tally, said = run_sweep(ROW, pretend, file)
    assert tally.ran == 2
    assert len(said) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[row]", "not a table of rows"),
        ('[[row]]\nname = "a"', "missing"),
        ("{row} learning_rte = 1", "unexpected keyword"),
        ('{row} arms = ["s=x"]', "unknown arm"),
        ('{row} task = "nothing"', "unknown task"),
        ("{row} tuning_seeds = [1]", "seeds [1] are for tuning and for reporting"),
        ("{row} first_rates = [0, 2]", "first_rates are exponents of 2"),
        ("{row} first_rates = []", "first_rates are exponents of 2"),
        ("{row} weight_decay = 0.1", "adam has no weight decay"),
        ("{row} {row}", "two rows called 'a'"),
    ],
)
def test_a_wrong_table_of_rows_says_where(tmp_path, text, message):
    good = {"name": "a", "study": "main", "task": "digits", "preset": "cpu", "optimizer": "adam"}
    entries = {**good, "arms": ["plain"], "seeds": [0, 1]}
    body = text.removeprefix("{row} ").split("{row}")[0]
    replaced = body.split(" = ")[0].strip()
    row = "\n".join(
        f"{key} = {json.dumps(value)}" for key, value in entries.items() if key != replaced
    )
    table = f"[[row]]\n{row}\n"
    file = tmp_path / "rows.toml"
    parts = text.split("{row}")
    file.write_text(text if len(parts) == 1 else table.join(part + "\n" for part in parts))
    with pytest.raises(UsageError, match=message.replace("[", r"\[").replace("]", r"\]")):
        read_rows(file)


def test_the_registered_rows_are_sound():
    rows = read_rows(REGISTERED)
    assert choose_rows(rows, None, None) == rows
    for row in rows:
        assert len(row.seeds) >= 5
        assert row.learning_rates or len(row.tuning_seeds) >= 3


# --------------------------------------------------------------------------------------------------
# What is made of results
# --------------------------------------------------------------------------------------------------


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


def test_effects_are_paired_and_in_percent(summary):
    (one,) = effects([summary], "plain")
    assert one.arm == "s=1"
    np.testing.assert_allclose(one.improvement, 100 * 2 / 80)
    np.testing.assert_allclose([one.low, one.high], one.improvement)  # all seeds gain the same
    assert one.verdict == one.student_verdict == "better"
    (other,) = effects([summary], "nesterov")
    np.testing.assert_allclose(other.improvement, 100 / 81)


def test_the_bootstrap_covers_a_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(generator.normal(1.0, 1.0, 40))
        covered += low <= 1.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


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
    assert "s=1 against the plain optimizer, 1 main rows: 1 better, 0 worse, 0 undecided" in text
    assert "| never-run | main | digits | cpu | yogi | plain | 3 | 0 of 12 |" in text
    latex = (output / "tables.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 3
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
