"""The command ``sweep``, on runs that are made up."""

import dataclasses
import json
import resource

import numpy as np
import pytest
from made_up_runs import HERE, PROTOCOL, ROW, made_up, pretend, run_sweep

from experiments.errors import UsageError
from experiments.folder import append_records
from experiments.studies.evidence import sweep as sweeping
from experiments.studies.evidence.ask import REGISTERED
from experiments.studies.evidence.page import write_report
from experiments.studies.evidence.planned import count_runs, results_on
from experiments.studies.evidence.rows import choose_rows, read_rows
from experiments.studies.evidence.summaries import data_of, summarize_row
from experiments.training.result import (
    DIVERGED,
    FAILED,
    FINISHED,
    RunSpec,
    read_results,
)

SPEC = RunSpec(
    task="digits", preset="cpu", optimizer="adam", arm="plain", learning_rate=3e-3, seed=0, epochs=2
)


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
        f"row made-up: 12 results of digits are on other data than {HERE} and do not count"
    ]
    results, _ = read_results([file])
    assert len(results) == 24
    for data in (HERE, "f" * 12):
        own = dataclasses.replace(row, data=data)
        assert data_of(own, results) == data
        found, others = results_on(data, own, results)
        assert {result.data for result in found.values()} == {data}
        assert len(found) == 12
        assert others is None  # the row says it


def test_a_report_mixes_no_data(tmp_path, capsys):
    file, row = tmp_path / "made-up.jsonl", dataclasses.replace(ROW, arms=("plain",))
    run_sweep(row, lambda spec: dataclasses.replace(pretend(spec), data="f" * 12), file)
    run_sweep(dataclasses.replace(row, seeds=(0, 1, 2, 3)), pretend, file)
    write_report(tmp_path, tmp_path, [row])
    assert f"12 results of digits are on other data than {HERE} and do not" in (
        " ".join(capsys.readouterr().err.split())
    )
    assert f"| 12 of 12 | `{HERE}` |" in (tmp_path / "README.md").read_text()


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
    assert tally.failed == 3
    assert "out of memory" in said[0]
    results, _ = read_results([file])
    assert {r.status for r in results} == {FINISHED, DIVERGED, FAILED}
    reported = {r.spec.arm for r in results if r.spec.seed in ROW.seeds}
    assert reported == {"plain", "s=1"}  # no rate is chosen by what failed
    tally, _ = run_sweep(ROW, pretend, file)  # what failed is tried again
    assert tally.failed == 0
    assert tally.ran == 3 + len(ROW.seeds)


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
