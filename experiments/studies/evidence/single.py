"""``run``: one run with all that one wants to watch of it."""

import functools
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from experiments.errors import UsageError
from experiments.folder import append_records, check_writable
from experiments.page import print_plain, report_console
from experiments.progress import bar_columns
from experiments.studies.evidence.ask import RunConfig
from experiments.study import INTERRUPTED
from experiments.tasks import load_task
from experiments.training.checkpoints import forget, newest_step
from experiments.training.loop import Keeping, Trainer
from experiments.training.result import Point, RunSpec, read_results

RESULTS_FILE = "results.jsonl"


def run_single(config: RunConfig) -> int:
    """Trains one run as asked for; returns the exit status."""
    task = load_task(config.task, config.preset)
    spec = RunSpec(
        task=task.name,
        preset=task.preset,
        optimizer=config.optimizer,
        arm=config.arm,
        learning_rate=config.learning_rate or task.protocol.learning_rates[config.optimizer],
        seed=config.seed,
        epochs=config.epochs,
        weight_decay=config.weight_decay,
    )
    folder: Path = config.output or Path("runs", spec.folder_name)
    checkpoints = folder / "checkpoints" / spec.key
    keeping = Keeping(
        folder=checkpoints, seconds=config.checkpoint_seconds, steps=config.checkpoint_steps
    )
    console = Console(stderr=True)
    _check(folder, checkpoints, spec, config.resume)
    if config.resume:
        print_plain(console, f"goes on from step {newest_step(checkpoints)}")
    try:
        trainer = Trainer(task, task.load(config.data_dir))
        with _Watching(console, str(spec), folder / "tensorboard", task.metric.name) as watching:
            result = trainer.run(spec, keeping, watching.listen)
    except KeyboardInterrupt:
        print_plain(console, _kept(checkpoints))
        return INTERRUPTED
    append_records(folder / RESULTS_FILE, [result])
    forget(checkpoints)
    for line in (result.outcome(), f"results are in {folder}"):
        print_plain(report_console(), line)
    return 0


def _check(folder: Path, checkpoints: Path, spec: RunSpec, resume: bool) -> None:
    """Makes sure that nothing is lost or taken for new, and that a folder can be written to."""
    file, step = folder / RESULTS_FILE, newest_step(checkpoints)
    known, _ = read_results([file] if file.exists() else [])
    if any(result.spec == spec for result in known):
        raise UsageError(f"{file} has the result of this run already; give --output another folder")
    if step is not None and not resume:
        raise UsageError(
            f"{checkpoints} holds this run up to step {step}; --resume goes on from there, and "
            "--output with another folder begins anew"
        )
    if step is None and resume:
        raise UsageError(
            f"there is nothing to resume in {checkpoints}; leave --resume out to begin anew"
        )
    check_writable(folder)


def _kept(checkpoints: Path) -> str:
    """Says what an interruption has left."""
    step = newest_step(checkpoints)
    if step is None:
        return "interrupted before anything was saved; the same command begins anew"
    return (
        f"interrupted; saved up to step {step}, --resume with the same command goes on from there"
    )


class _Watching:
    """A bar on the terminal, a line an epoch, and logs for TensorBoard."""

    def __init__(self, console: Console, title: str, logs: Path, metric: str) -> None:
        self._console = console
        self._bar = Progress(
            *bar_columns("steps"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=None)
        self._logs, self._metric = logs, metric

    @functools.cached_property
    def _writer(self) -> Any:
        """Made for what is logged first: a run that comes to nothing leaves no folder."""
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(self._logs))

    def __enter__(self) -> "_Watching":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
        if "_writer" in vars(self):
            self._writer.close()

    def listen(self, done: int, total: int, point: Point | None) -> None:
        """Shows how far the run is, and what was measured."""
        self._bar.update(self._task, completed=done, total=total)
        if point is None:
            return
        scalars = {"train/loss": point.train_loss}
        scalars |= {f"validation/{name}": value for name, value in point.validation.items()}
        scalars |= {f"test/{name}": value for name, value in point.test.items()}
        for name, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(name, value, point.step)
        loss = "not finite" if point.train_loss is None else f"{point.train_loss:.4g}"
        print_plain(
            self._console,
            f"epoch {point.epoch}: train loss {loss}, validation {self._metric} "
            f"{point.validation[self._metric]}, {point.seconds:.1f} s of training",
        )
