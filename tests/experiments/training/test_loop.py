"""The commands ``run``, ``sweep`` and ``report``, on digits and on results made up for the test."""

import dataclasses
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cli import main
from experiments.errors import UsageError
from experiments.evidence import sweep as sweeping
from experiments.evidence import training
from experiments.evidence.analysis import (
    area_over_rates,
    bootstrap_interval,
    effects,
    performance_profile,
    summarize_row,
)
from experiments.evidence.loading import measuring_batches, training_batches
from experiments.evidence.methods import OPTIMIZERS, make_method, read_arm
from experiments.evidence.records import (
    DIVERGED,
    FAILED,
    FINISHED,
    Point,
    Result,
    append_result,
    read_results,
)
from experiments.evidence.report import write_report
from experiments.evidence.rows import REGISTERED, Row, choose_rows, read_rows
from experiments.evidence.schedules import SCHEDULES
from experiments.evidence.spec import RunSpec
from experiments.evidence.task import Data, Gradient
from experiments.evidence.tasks import load_task
from experiments.evidence.training import Keeping, Trainer

SPEC = RunSpec(
    task="digits", preset="cpu", optimizer="adam", arm="s=1", learning_rate=3e-3, seed=0, epochs=2
)
COMMITTED = Path(__file__).parents[2] / "experiments" / "results" / "evidence"


@pytest.fixture(scope="module")
def trainer():
    task = load_task("digits", "cpu")
    return Trainer(task, task.load(None))


@pytest.fixture(scope="module")
def uninterrupted(trainer):
    return trainer.run(SPEC)


def measured(result):
    """All of a result that does not depend on the clock."""
    return [dataclasses.replace(point, seconds=0.0) for point in result.points]


# --------------------------------------------------------------------------------------------------
# One run
# --------------------------------------------------------------------------------------------------


def test_a_run_learns_and_says_what_it_cost(uninterrupted, trainer):
    assert uninterrupted.status == FINISHED
    assert [point.step for point in uninterrupted.points] == [33, 66]
    assert uninterrupted.best().test["accuracy"] > 80
    assert uninterrupted.temporary_bytes > 0
    params = jax.eval_shape(trainer.task.init, jax.random.key(0)).params
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == trainer.task.parameters


def test_the_same_run_twice_is_the_same_and_another_seed_is_not(trainer, uninterrupted):
    assert measured(trainer.run(SPEC)) == measured(uninterrupted)
    other = trainer.run(dataclasses.replace(SPEC, seed=1))
    assert measured(other) != measured(uninterrupted)


@pytest.mark.parametrize("cut_at", [10, 33, 40])
def test_a_run_goes_on_bit_for_bit_from_its_checkpoint(trainer, uninterrupted, tmp_path, cut_at):
    keeping = Keeping(folder=tmp_path / "checkpoints", steps=10)

    def cut(done, total, point):
        if done == cut_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run(SPEC, keeping, cut)
    first = []
    resumed = trainer.run(SPEC, keeping, lambda done, total, point: first.append(done))
    assert first[0] == max(1, (cut_at - 1) // 10 * 10 + 1)
    assert measured(resumed) == measured(uninterrupted)
    assert not keeping.folder.exists()


def test_a_killed_run_resumes_to_the_same_result(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "experiments", "run", "--output", str(folder), "--epochs", "2"]
    command += ["--checkpoint-steps", "7"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while not list(folder.glob("checkpoints/*/[0-9]*")):
            assert process.poll() is None, "the run ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "results.jsonl").exists()

    assert main([*command[3:]]) == 2  # without --resume nothing is taken for a new run
    assert main([*command[3:], "--resume"]) == 0
    (result,), complaints = read_results([folder / "results.jsonl"])
    assert not complaints
    assert measured(result) == measured(uninterrupted)
    assert list((folder / "tensorboard").iterdir())
    assert main([*command[3:], "--resume"]) == 2  # the result is there


def test_a_run_that_diverges_ends_there_and_says_so(trainer):
    result = trainer.run(
        dataclasses.replace(SPEC, optimizer="sgdm", arm="plain", learning_rate=1e9)
    )
    assert result.status == DIVERGED
    assert result.points[-1].train_loss is None
    json.dumps(dataclasses.asdict(result), allow_nan=False)


def test_sam_at_equal_gradients_has_half_of_the_steps(trainer):
    result = trainer.run(dataclasses.replace(SPEC, arm="sam-equal"))
    assert result.steps * result.gradients_per_step == 66


def test_seeds_at_once_are_the_runs_one_by_one(trainer):
    specs = [dataclasses.replace(SPEC, seed=seed) for seed in range(3)]
    together = trainer.run_at_once(specs)
    for spec, found in zip(specs, together, strict=True):
        alone = trainer.run(spec)
        assert (found.spec, found.status, found.steps) == (spec, FINISHED, alone.steps)
        assert (alone.at_once, found.at_once) == (1, 3)
        for one, other in zip(alone.points, found.points, strict=True):
            assert (one.epoch, one.step) == (other.epoch, other.step)
            np.testing.assert_allclose(other.train_loss, one.train_loss, rtol=1e-3)
            np.testing.assert_allclose(other.test["loss"], one.test["loss"], rtol=1e-2)


def test_of_seeds_at_once_each_diverges_for_itself(trainer):
    init = trainer.task.init
    broken = lambda key: jax.tree.map(lambda leaf: leaf * jnp.nan, init(key))  # noqa: E731
    task = dataclasses.replace(
        trainer.task,
        init=lambda key: jax.lax.cond(key_is_of_seed(key, 1), broken, init, key),
    )
    results = Trainer(task, trainer.data).run_at_once(
        [dataclasses.replace(SPEC, seed=seed) for seed in range(3)]
    )
    assert [result.status for result in results] == [FINISHED, DIVERGED, FINISHED]
    assert [len(result.points) for result in results] == [2, 1, 2]


def key_is_of_seed(key, seed):
    of_seed = jax.random.fold_in(jax.random.key(seed), 0)
    return (jax.random.key_data(key) == jax.random.key_data(of_seed)).all()


def test_without_memory_for_all_seeds_they_go_one_by_one(trainer, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(training, "_advance_together", exhausted)
    results = trainer.run_at_once([SPEC, dataclasses.replace(SPEC, seed=1)])
    assert [(result.status, result.at_once) for result in results] == [(FINISHED, 1)] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--arm s=-1", "unknown arm"),
        ("--arm s=1/oracle", "unknown arm"),
        ("--optimizer rmsprop --arm nesterov", "rmsprop has no arm"),
        ("--task nothing", "unknown task"),
        ("--preset tpu", "unknown preset"),
        ("--resume", "nothing to resume"),
    ],
)
def test_a_bad_request_is_one_line(arguments, message, tmp_path, capsys):
    assert main(["run", "--output", str(tmp_path / "run"), *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_run_without_data_leaves_nothing_to_resume(tmp_path, capsys):
    command = [
        "run",
        "--task",
        "lenet",
        "--data-dir",
        str(tmp_path),
        "--output",
        str(tmp_path / "run"),
    ]
    for _ in range(2):
        assert main(command) == 2
        assert "is not in" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------
# Methods
# --------------------------------------------------------------------------------------------------

PARAMS = {"w": jnp.array([1.0, -2.0, 3.0]), "m": jnp.eye(3)}


def bowl(params):
    value, gradient = jax.value_and_grad(
        lambda p: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))
    )(params)
    return Gradient(value, gradient, {})


def follow(optimizer, arm, steps=6, **options):
    """Returns where a method arrives on the bowl, and the loss at the last gradient."""
    method = make_method(optimizer, arm, 0.01, SCHEDULES["constant"](steps), **options)
    params, opt_state = PARAMS, jax.jit(method.init)(PARAMS)
    step = jax.jit(lambda params, opt_state: method.step(bowl, params, opt_state))
    for _ in range(steps):
        loss, params, opt_state, _ = step(params, opt_state)
    return method.evaluated(params, opt_state), loss


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_arm_of_every_optimizer_descends(optimizer):
    forms = OPTIMIZERS[optimizer]
    arms = ["plain", "s=1", "s=2/zero-gradient", "s=1.5/last-update", "sam"]
    arms += ["nesterov"] if forms.nesterov else []
    arms += ["schedule-free"] if forms.schedule_free else []
    for arm in arms:
        assert bowl(follow(optimizer, arm)[0]).loss < bowl(PARAMS).loss, arm


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_horizon_of_zero_is_the_plain_optimizer(optimizer):
    (plain, at), (predicted, _) = follow(optimizer, "plain"), follow(optimizer, "s=0")
    jax.tree.map(np.testing.assert_array_equal, plain, predicted)
    assert follow(optimizer, "s=2/last-update")[1] != at


def test_sam_takes_the_gradient_a_little_uphill():
    method = make_method("sgdm", "sam", 0.5, SCHEDULES["constant"](1))
    params = {"w": jnp.array([3.0, 4.0])}
    _, after, _, _ = method.step(bowl, params, method.init(params))
    uphill = params["w"] * (1 + 0.05 / 5)  # the gradient points along the parameters, of norm 5
    np.testing.assert_allclose(after["w"], params["w"] - 0.5 * 2 * uphill, rtol=1e-6)


def test_clipping_bounds_the_gradient_and_weight_decay_is_passed_on():
    plain = make_method("sgdm", "plain", 1.0, SCHEDULES["constant"](1), clip_norm=0.5)
    _, after, _, _ = plain.step(bowl, PARAMS, plain.init(PARAMS))
    moved = jax.tree.leaves(jax.tree.map(jnp.subtract, PARAMS, after))
    np.testing.assert_allclose(math.sqrt(sum(float(jnp.sum(m**2)) for m in moved)), 0.5, rtol=1e-5)
    decayed, _ = follow("adamw", "s=1", weight_decay=5.0)
    assert np.abs(decayed["w"]).sum() < np.abs(follow("adamw", "s=1")[0]["w"]).sum()


def test_arms_are_read_from_their_names():
    assert read_arm("s=2.5", "adam").horizon == 2.5
    assert read_arm("s=1", "adam").predictor == "closed-form"
    assert read_arm("s=1", "muon").predictor == "last-update"
    assert read_arm("s=1/zero-gradient", "muon").predictor == "zero-gradient"


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_stay_between_zero_and_one(name):
    values = np.array([SCHEDULES[name](40)(count) for count in range(40)])
    assert values.max() == 1
    assert values.min() >= 0
    assert (np.diff(values[values.argmax() :]) <= 1e-7).all()


# --------------------------------------------------------------------------------------------------
# Batches
# --------------------------------------------------------------------------------------------------


def numbered(count, **more):
    examples = {"number": np.arange(count)}
    return Data(examples, examples, examples, **more)


def numbers(batches):
    return [batch["number"].tolist() for batch in batches]


def test_each_epoch_sees_other_batches_in_another_order():
    seen = numbers(training_batches(numbered(10), 3, seed=0, epochs=2))
    assert len(seen) == 6
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert len(set(first)) == len(set(second)) == 9
    assert first.tolist() != second.tolist()
    assert numbers(training_batches(numbered(10), 3, seed=0, epochs=2)) == seen
    assert numbers(training_batches(numbered(10), 3, seed=1, epochs=2)) != seen


def test_ordered_examples_stay_in_order():
    assert (
        numbers(training_batches(numbered(7, ordered=True), 3, 0, 2))
        == [
            [0, 1, 2],
            [3, 4, 5],
        ]
        * 2
    )


def test_batches_go_on_where_they_were_cut_with_the_same_changes():
    def change(batch, generator):
        return {"number": batch["number"] + generator.integers(0, 1000, len(batch["number"]))}

    data = numbered(20, augment=change)
    whole = training_batches(data, 4, 0, 3)
    seen = numbers(next(whole) for _ in range(7))
    place = whole.get_state()
    rest = numbers(whole)
    again = training_batches(data, 4, 0, 3)
    again.set_state(json.loads(json.dumps(place)))
    assert numbers(again) == rest
    assert len(seen) + len(rest) == 15


def test_measuring_counts_every_example_once():
    batches = list(measuring_batches({"number": np.arange(7)}, 3))
    assert [batch["number"].shape for batch in batches] == [(3,)] * 3
    kept = np.concatenate([batch["number"][batch["weight"] == 1] for batch in batches])
    assert kept.tolist() == list(range(7))


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
        temporary_bytes=1000,
        error=None,
        environment={
            "date": "2026-01-01T00:00:00",
            "device": {"kind": "cpu"},
            "versions": {"jax": "0", "optax": "0"},
        },
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
    sweep = sweeping.Sweep(one_by_one(run), file.parent, said.append)
    for _ in sweep.rows([(row, PROTOCOL)]):
        pass
    return sweep.tally, said


def one_by_one(run):
    return lambda specs: [run(spec) for spec in specs]


def test_a_sweep_tunes_every_arm_then_reports_seeds_and_never_repeats(tmp_path):
    file = tmp_path / "made-up.jsonl"
    tally, said = run_sweep(ROW, pretend, file)
    assert not said
    assert tally.ran == sweeping.count_runs(ROW, PROTOCOL) == 3 * (3 + 3)
    results, _ = read_results([file])
    reported = {(r.spec.arm, r.spec.learning_rate) for r in results if r.spec.seed in ROW.seeds}
    assert reported == {("plain", 0.1), ("nesterov", 0.1), ("s=1", 0.1)}
    again, _ = run_sweep(ROW, lambda spec: pytest.fail("was run twice"), file)
    assert (again.ran, again.known) == (0, 18)


def test_a_sweep_survives_failed_and_diverged_runs(tmp_path):
    def run(spec):
        if spec.arm == "nesterov" and spec.seed == 1000:
            raise RuntimeError("out of memory")
        if spec.learning_rate > 0.2:
            return made_up(spec, [None], DIVERGED)
        return pretend(spec)

    file = tmp_path / "made-up.jsonl"
    tally, said = run_sweep(ROW, run, file)
    assert tally.failed == 3
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
    wider = dataclasses.replace(ROW, name="wider", learning_rates=(0.033, 0.1, 0.3, 0.9))
    ran = []

    def run(spec):
        ran.append(spec)
        return pretend(spec)

    tally, _ = run_sweep(wider, run, tmp_path / "wider.jsonl")
    assert {spec.learning_rate for spec in ran} == {0.9}
    assert (tally.ran, tally.known) == (3, 3 * (3 + 3))
    assert len(read_results([tmp_path / "wider.jsonl"])[0]) == 3


def test_seeds_are_run_together_as_far_as_allowed(tmp_path):
    groups = []

    def run(specs):
        groups.append([(spec.arm, spec.learning_rate, spec.seed) for spec in specs])
        return [pretend(spec) for spec in specs]

    sweep = sweeping.Sweep(run, tmp_path, pytest.fail, at_once=2)
    assert len(list(sweep.rows([(ROW, PROTOCOL)]))) == sweep.tally.ran == 18
    plain = [group for group in groups if group[0][0] == "plain"]
    rates = [[("plain", rate, 1000)] for rate in PROTOCOL.learning_rates["sgdm"]]
    assert plain == [*rates, [("plain", 0.1, 0), ("plain", 0.1, 1)], [("plain", 0.1, 2)]]


def test_a_row_that_cannot_be_run_is_skipped_as_a_whole(tmp_path):
    def run(spec):
        raise UsageError("data set cifar10 is missing")

    tally, said = run_sweep(ROW, run, tmp_path / "made-up.jsonl")
    assert said == ["row made-up skipped: data set cifar10 is missing"]
    assert (tally.skipped, tally.ran, tally.failed) == (1, 0, 0)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_reported_and_leaves_no_half_line(tmp_path):
    file = tmp_path / "made-up.jsonl"
    append_result(file, pretend(dataclasses.replace(SPEC, arm="plain")))
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        tally, said = run_sweep(ROW, pretend, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert tally.unwritten == tally.ran == 18
    assert "not written" in said[0]
    assert file.read_bytes() == before


def test_corrupt_lines_are_reported_and_skipped(tmp_path):
    file = tmp_path / "made-up.jsonl"
    run_sweep(ROW, pretend, file)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1][:50], "[]", *lines[3:]]) + "\n")
    results, complaints = read_results([file, tmp_path / "missing.jsonl"])
    assert len(results) == 16
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
        assert row.learning_rates or load_task(row.task, row.preset).protocol.learning_rates


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
    row = dataclasses.replace(
        ROW, arms=("plain",), learning_rates=(0.01, 0.1, 1.0), every_rate=True, seeds=(0, 1)
    )
    results = {
        spec.key: made_up(spec, [1 + 100 * spec.learning_rate])
        for spec in sweeping.reported_specs(row, row.learning_rates, "plain")
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
            every_rate=True,
            arms=("plain", "s=1"),
        ),
        dataclasses.replace(
            ROW, name="never-run", task="digits", optimizer="yogi", arms=("plain",)
        ),
    ]
    for row in rows[:3]:
        run_sweep(row, pretend, tmp_path / f"{row.name}.jsonl")
    output = tmp_path / "report"
    assert write_report(tmp_path, output, rows) == 0
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
    assert "| never-run | main | digits | cpu | yogi | plain | 3 | 0 of 6 |" in text
    latex = (output / "tables.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 3
    assert r"\pm" in latex
    with pytest.raises(UsageError, match="no results"):
        write_report(tmp_path / "nowhere", output, rows)


@pytest.mark.skipif(not list(COMMITTED.glob("*.jsonl")), reason="no committed results")
def test_the_committed_report_is_what_the_committed_results_say(tmp_path):
    write_report(COMMITTED, tmp_path, read_rows(REGISTERED))
    for name in ("README.md", "tables.tex"):
        assert (tmp_path / name).read_text() == (COMMITTED / name).read_text(), name
    plots = {path.name for path in tmp_path.glob("*.png")}
    assert plots == {path.name for path in COMMITTED.glob("*.png")}


def test_sweep_and_report_run_from_the_command_line(tmp_path, capsys):
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
    folder = tmp_path / "results"
    assert main(["sweep", *options, "--output", str(folder), "--dry-run"]) == 0
    assert "1 rows, 4 runs" in capsys.readouterr().out
    assert main(["sweep", *options, "--output", str(folder)]) == 0
    assert "4 runs done" in capsys.readouterr().err
    assert main(["report", str(folder), *options]) == 0
    assert (folder / "forest-main.png").exists()
    assert main(["sweep", *options, "--rows", "long"]) == 2
    assert os.listdir(folder)
