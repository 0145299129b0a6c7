"""One run from its start, or from a checkpoint, to its result; on digits."""

import dataclasses
import json
import re
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
from experiments.studies.evidence.single import _Watching
from experiments.study import INTERRUPTED
from experiments.tasks import load_task
from experiments.training import loop
from experiments.training.checkpoints import newest_step
from experiments.training.loop import Keeping, Trainer
from experiments.training.program import Program, compile_program
from experiments.training.result import DIVERGED, FINISHED, RunSpec, read_results

SPEC = RunSpec(
    task="digits", preset="cpu", optimizer="adam", arm="s=1", learning_rate=3e-3, seed=0, epochs=2
)

KEY = "digits-adam-301bdbf36645"  # of SPEC with the arm s=1/zero-gradient


@pytest.fixture(scope="module")
def trainer():
    """Keeps every program that it compiles; one of a user keeps the last."""
    task, known = load_task("digits", "cpu"), {}

    def compiled(task, spec, steps, batch, at_once=1):
        key = dataclasses.replace(spec, seed=0, learning_rate=1.0), at_once
        if key not in known:
            known[key] = compile_program(task, spec, steps, batch, at_once)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compile_program", compiled)
        yield Trainer(task, task.load(None))


@pytest.fixture(scope="module")
def uninterrupted(trainer):
    return trainer.run(SPEC)


def measured(result):
    """All of a result that does not depend on the clock."""
    return [dataclasses.replace(point, seconds=0.0) for point in result.points]


def test_a_run_learns_and_says_what_it_cost(uninterrupted, trainer):
    assert uninterrupted.status == FINISHED
    assert [point.step for point in uninterrupted.points] == [33, 66]
    assert uninterrupted.best().test["accuracy"] > 80
    params = jax.eval_shape(trainer.task.init, jax.random.key(0)).params
    assert uninterrupted.step_bytes > 3 * 4 * trainer.task.parameters  # Adam has two moments
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


@pytest.fixture
def press_ctrl_c():
    """Presses it, also where the shell has switched it off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


@pytest.mark.parametrize("pressed_at", [33, 40])
def test_ctrl_c_saves_what_has_been_done(
    trainer, uninterrupted, tmp_path, press_ctrl_c, pressed_at
):
    keeping = Keeping(folder=tmp_path / "checkpoints")
    with pytest.raises(KeyboardInterrupt):
        trainer.run(SPEC, keeping, at_step(pressed_at, press_ctrl_c))
    assert newest_step(keeping.folder) == pressed_at
    first = []
    resumed = trainer.run(SPEC, keeping, lambda done, total, point: first.append(done))
    assert first[0] == pressed_at + 1
    assert measured(resumed) == measured(uninterrupted)


def test_ctrl_c_during_the_last_step_changes_nothing(
    trainer, uninterrupted, tmp_path, press_ctrl_c
):
    keeping = Keeping(folder=tmp_path / "checkpoints")
    result = trainer.run(SPEC, keeping, at_step(66, press_ctrl_c))
    assert measured(result) == measured(uninterrupted)


@pytest.mark.parametrize("kept", [True, False])
def test_ctrl_c_twice_or_with_nothing_to_save_stops_at_once(trainer, tmp_path, press_ctrl_c, kept):
    keeping, reached = Keeping(folder=tmp_path / "checkpoints"), []

    def press():
        press_ctrl_c()
        reached.append(True)
        press_ctrl_c()

    with pytest.raises(KeyboardInterrupt):
        trainer.run(SPEC, keeping if kept else None, at_step(40, press))
    assert reached == [True] * kept
    assert not list(tmp_path.iterdir())


def at_step(number, act):
    return lambda done, total, point: act() if done == number else None


def test_an_interrupted_run_says_what_is_kept_and_where_it_goes_on(
    monkeypatch, tmp_path, press_ctrl_c, capsys
):
    monkeypatch.chdir(tmp_path)
    command = ["run", "--epochs", "1"]
    listen = at_step(5, press_ctrl_c)
    with monkeypatch.context() as patch:
        patch.setattr(_Watching, "listen", lambda self, *args: listen(*args))
        assert main(command) == INTERRUPTED
    (folder,) = Path("runs").iterdir()
    assert re.fullmatch(r"digits-adam-s=1-rate=0\.003-seed=0-[0-9a-f]{12}", folder.name)
    assert "saved up to step 5, --resume with the same command" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["checkpoints"]
    assert main(command) == 2
    assert "holds this run up to step 5; --resume goes on" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("goes on from step 5\n")
    assert captured.out.startswith("finished; test accuracy")
    assert sorted(path.name for path in folder.iterdir()) == ["results.jsonl", "tensorboard"]


def test_a_run_interrupted_before_its_first_step_leaves_nothing(monkeypatch, tmp_path, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "compile_program", interrupted)
    assert main(["run"]) == INTERRUPTED
    assert "before anything was saved; the same command begins anew" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_finished_checkpoint_is_nothing_to_resume(tmp_path, capsys):
    folder = tmp_path / "run"
    (folder / "checkpoints" / RunSpec(**{**vars(SPEC), "epochs": None}).key).mkdir(parents=True)
    assert main(["run", "--output", str(folder), "--resume"]) == 2
    assert "there is nothing to resume in" in capsys.readouterr().err


def test_the_key_of_a_run_is_that_of_committed_results():
    assert dataclasses.replace(SPEC, arm="s=1/zero-gradient").key == KEY
    name = dataclasses.replace(SPEC, arm="s=1/zero-gradient").folder_name
    assert name == f"digits-adam-s=1-zero-gradient-rate=0.003-seed=0-{KEY[-12:]}"


def test_a_killed_run_resumes_to_the_same_result(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "experiments", "run", "--output", str(folder), "--epochs", "2"]
    command += ["--checkpoint-steps", "7"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 300
        while not any(path.name.isdigit() for path in folder.glob("checkpoints/*/*")):
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
    assert not (folder / "checkpoints").exists()
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


SEEDS_AT_ONCE = [dataclasses.replace(SPEC, seed=seed) for seed in range(3)]
RATES_AT_ONCE = [
    dataclasses.replace(SPEC, seed=seed, learning_rate=rate)
    for seed, rate in ((0, 3e-3), (0, 6e-3), (1, 6e-3))
]


@pytest.mark.parametrize("specs", [SEEDS_AT_ONCE, RATES_AT_ONCE])
def test_runs_at_once_are_the_runs_one_by_one(trainer, specs):
    for spec, found in zip(specs, trainer.run_at_once(specs), strict=True):
        alone = trainer.run(spec)
        assert (found.spec, found.status, found.steps) == (spec, FINISHED, alone.steps)
        assert (alone.at_once, found.at_once) == (1, 3)
        for one, other in zip(alone.points, found.points, strict=True):
            assert (one.epoch, one.step) == (other.epoch, other.step)
            np.testing.assert_allclose(other.train_loss, one.train_loss, rtol=1e-3)
            np.testing.assert_allclose(other.test["loss"], one.test["loss"], rtol=1e-2)


def test_of_seeds_at_once_each_diverges_for_itself(trainer, monkeypatch):
    program, _ = trainer._program(SPEC, 3)

    def start(seed, rate):
        progress = program.start(seed, rate)
        broken = jax.tree.map(lambda leaf: leaf * jnp.nan, progress.params)
        return progress._replace(params=broken) if seed == 1 else progress

    monkeypatch.setattr(trainer, "_program", lambda *_: (program._replace(start=start), 0.0))
    results = trainer.run_at_once(SEEDS_AT_ONCE)
    assert [result.status for result in results] == [FINISHED, DIVERGED, FINISHED]
    assert [len(result.points) for result in results] == [2, 1, 2]


def test_without_memory_for_all_seeds_they_go_one_by_one(trainer, monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(loop, "advance_together", exhausted)
    results = trainer.run_at_once(SEEDS_AT_ONCE)
    assert [(result.status, result.at_once) for result in results] == [(FINISHED, 1)] * 3


def test_a_step_for_more_runs_serves_fewer(trainer):
    three, two = (trainer.run_at_once(SEEDS_AT_ONCE[:count]) for count in (3, 2))
    assert [result.at_once for result in two] == [2, 2]
    assert [measured(result) for result in two] == [measured(result) for result in three[:2]]
    assert two[0].compile_seconds == 0


def test_an_arm_is_compiled_once_for_all_its_rates_and_seeds():
    task, compiled = load_task("digits", "cpu"), []
    trainer = Trainer(task, task.load(None))

    def compile_one(task, spec, steps, batch, at_once=1):
        compiled.append((spec.arm, at_once))
        return Program(None, None, None, None, at_once)

    others = [{"seed": 1}, {"learning_rate": 0.1}, {"arm": "sam"}, {"arm": "s=1"}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "compile_program", compile_one)
        for other in ({}, *others):
            trainer._program(dataclasses.replace(SPEC, **other), 1)
        for at_once in (9, 6, 10, 1):
            trainer._program(SPEC, at_once)
    assert compiled == [("s=1", 1), ("sam", 1), *(("s=1", count) for count in (1, 9, 10, 1))]


@pytest.mark.parametrize("arm", ["plain", "s=2/zero-gradient", "schedule-free"])
def test_the_rate_of_a_compiled_step_is_that_of_its_run(arm):
    """Whatever it was compiled for first; a zero-gradient's state has its transform in it."""
    task = load_task("digits", "cpu")
    spec = dataclasses.replace(SPEC, optimizer="sgdm", arm=arm, learning_rate=0.01, epochs=1)
    results = []
    for rates in ([0.01], [0.1, 0.01]):
        trainer = Trainer(task, task.load(None))
        runs = [trainer.run(dataclasses.replace(spec, learning_rate=rate)) for rate in rates]
        results += [measured(run) for run in runs]
    first, other, again = results
    assert first == again != other
    assert runs[1].compile_seconds == 0


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
