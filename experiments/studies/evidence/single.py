"""``run``: one run with all that one wants to watch of it."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from experiments.errors import UsageError
from experiments.folder import append_records, check_writable
from experiments.page import print_plain, report_console
from experiments.progress import bar_columns
from experiments.studies.evidence.ask import RunConfig
from experiments.tasks import load_task
from experiments.training.loop import Keeping, Trainer
from experiments.training.result import Point, Result, RunSpec, read_results

RESULTS_FILE = "results.jsonl"


def run_single(config: RunConfig) -> int:
    """Trains one run as asked for; returns the exit status."""
    task = load_task(config.task, config.preset)
    rates = task.protocol.learning_rates[config.optimizer]
    spec = RunSpec(
        task=task.name,
        preset=task.preset,
        optimizer=config.optimizer,
        arm=config.arm,
        learning_rate=config.learning_rate or rates[len(rates) // 2],
        seed=config.seed,
        epochs=config.epochs,
        weight_decay=config.weight_decay,
    )
    folder: Path = config.output or Path("runs", spec.key)
    keeping = _keeping(config, folder, spec)
    trainer = Trainer(task, task.load(config.data_dir))
    with _Watching(str(spec), folder / "tensorboard", task.metric.name) as watching:
        result = trainer.run(spec, keeping, watching.listen)
    append_records(folder / RESULTS_FILE, [result])
    _show(result, folder)
    return 0


def _keeping(config: RunConfig, folder: Path, spec: RunSpec) -> Keeping:
    """Returns where checkpoints go, after making sure that nothing is lost or taken for new."""
    file, checkpoints = folder / RESULTS_FILE, folder / "checkpoints" / spec.key
    known, _ = read_results([file] if file.exists() else [])
    if any(result.spec == spec for result in known):
        raise UsageError(f"{file} has the result of this run already; give --output another folder")
    if checkpoints.exists() and not config.resume:
        raise UsageError(
            f"{checkpoints} holds a run that was cut off; --resume continues it, and --output "
            "with another folder begins anew"
        )
    if config.resume and not checkpoints.exists():
        raise UsageError(f"there is nothing to resume in {checkpoints}; leave --resume out")
    check_writable(folder)
    return Keeping(
        folder=checkpoints,
        seconds=config.checkpoint_seconds,
        steps=config.checkpoint_steps,
    )


class _Watching:
    """A bar on the terminal, a line an epoch, and logs for TensorBoard."""

    def __init__(self, title: str, logs: Path, metric: str) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            *bar_columns("steps"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=None)
        self._logs, self._metric = logs, metric
        self._writer: Any = None

    def __enter__(self) -> "_Watching":
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(self._logs))
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
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


def _show(result: Result, folder: Path) -> None:
    console, best = report_console(), result.best()
    if best:
        print_plain(
            console,
            f"{result.status}; test {result.metric} {best.test[result.metric]} at epoch "
            f"{best.epoch}, the best on validation",
        )
    else:
        print_plain(console, result.status)
    print_plain(console, f"results are in {folder}")
