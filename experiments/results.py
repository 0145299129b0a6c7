"""The run folder: what a run leaves behind, written as soon as it is known."""

import contextlib
import dataclasses
import datetime
import itertools
import json
import math
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UsageError
from experiments.provenance import describe_environment

if TYPE_CHECKING:
    import numpy as np
    from _typeshed import DataclassInstance

    from experiments.config import Arm, CompareConfig
    from experiments.training.scan import History

RUNS_FILE = "runs.jsonl"
META_FILE = "meta.json"
REPORT_FILE = "report.md"
CURVES_FILE = "curves.png"

# What reports end with, where they lie beside both files.
FILES_NOTE = f"Versions, device, date and commit: `{META_FILE}`; every figure: `{RUNS_FILE}`."

Curve = list[float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One arm at one seed: one line of ``runs.jsonl``. None stands for a non-finite number.

    Attributes:
        task: name of the task.
        optimizer: name of the optimizer.
        arm: ``"s=1"``, or the baseline's name.
        horizon: steps predicted ahead, None for a baseline.
        learning_rate: the learning rate.
        seed: the seed.
        diverged: whether the training loss was ever not finite.
        early_loss: training loss at the early epoch.
        final_loss: training loss after the last epoch.
        epochs_to_target: first epoch with a training loss at or below the target, None if never.
        final_test_metric: test metric after the last epoch, None if the loss is not finite there.
        train_loss: training loss before training and after each epoch.
        validation_loss: the same for the validation loss.
        validation_metric: the same for the validation metric.
        test_metric: the same for the test metric.
    """

    task: str
    optimizer: str
    arm: str
    horizon: float | None
    learning_rate: float
    seed: int
    diverged: bool
    early_loss: float | None
    final_loss: float | None
    epochs_to_target: int | None
    final_test_metric: float | None
    train_loss: Curve
    validation_loss: Curve
    validation_metric: Curve
    test_metric: Curve


def make_records(config: "CompareConfig", arm: "Arm", history: "History") -> list[RunRecord]:
    """Turns the measurements of one arm into one record per seed."""
    return [
        _make_record(config, arm, seed, *(_curve(part[row]) for part in history))
        for row, seed in enumerate(config.seeds)
    ]


def _make_record(
    config: "CompareConfig",
    arm: "Arm",
    seed: int,
    train_loss: Curve,
    validation_loss: Curve,
    validation_metric: Curve,
    test_metric: Curve,
) -> RunRecord:
    final_loss = train_loss[-1]
    return RunRecord(
        task=config.task,
        optimizer=arm.optimizer,
        arm=arm.label,
        horizon=arm.horizon,
        learning_rate=arm.learning_rate,
        seed=seed,
        diverged=None in train_loss,
        early_loss=train_loss[config.early_epoch],
        final_loss=final_loss,
        epochs_to_target=_first_at_most(train_loss, config.target_loss),
        # Parameters that are not numbers still classify something: that is no accuracy.
        final_test_metric=None if final_loss is None else test_metric[-1],
        train_loss=train_loss,
        validation_loss=validation_loss,
        validation_metric=validation_metric,
        test_metric=test_metric,
    )


def _curve(values: "np.ndarray") -> Curve:
    # By way of text: the shortest digits that give the float32 back, not its 17 float64 digits.
    return [float(str(value)) if math.isfinite(value) else None for value in values]


def _first_at_most(curve: Curve, target: float | None) -> int | None:
    if target is None:
        return None
    reached = (epoch for epoch, loss in enumerate(curve) if loss is not None and loss <= target)
    return next(reached, None)


def create_run_folder(output: Path | None, name: str) -> Path:
    """Creates the folder for a run's results and an empty ``runs.jsonl`` in it.

    Args:
        output: a new or empty folder, None for a new one below ``runs``.
        name: what a new folder's name begins with.

    Returns:
        The folder.

    Raises:
        UsageError: the folder cannot be written to, or already holds something.
    """
    try:
        folder = _new_folder(name) if output is None else output
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(
                f"folder {str(folder)!r} is not empty and nothing is overwritten; "
                "give --output a new or empty folder, or leave it out"
            )
        (folder / RUNS_FILE).touch(exist_ok=False)
    except OSError as error:
        raise UsageError(
            f"cannot write to folder {str(output or 'runs')!r} ({error.strerror}); "
            "give --output a folder that can be created or is empty and writable"
        ) from error
    return folder


def check_writable(folder: Path) -> None:
    """Creates a folder if need be; a ``UsageError`` says if nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write to folder {str(folder)!r} ({error.strerror}); give --output another"
        ) from error


def _new_folder(name: str) -> Path:
    stem = Path("runs", f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    numbered = (stem.with_name(f"{stem.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([stem], numbered) if not folder.exists())


def append_records(folder: Path, records: Iterable["DataclassInstance"]) -> None:
    """Appends dataclasses to ``runs.jsonl``: a later interruption cannot lose them."""
    lines = [json.dumps(dataclasses.asdict(record), allow_nan=False) for record in records]
    with (folder / RUNS_FILE).open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


@contextlib.contextmanager
def recorded(folder: Path, configuration: "DataclassInstance") -> Iterator[dict[str, Any]]:
    """Keeps ``meta.json``: what is being run, and in the end how that went.

    Ctrl-C ends the block but not the program, so that what is finished can be reported.

    Args:
        folder: the run's folder.
        configuration: what was asked for.

    Yields:
        The contents of ``meta.json``, to add to; ``status`` is ``"running"``, and after the block
        ``"complete"`` or ``"interrupted"``.
    """
    start = time.monotonic()
    meta = {"status": "running", "configuration": dataclasses.asdict(configuration)}
    meta |= describe_environment()
    _write_meta(folder, meta)  # even a killed run says what it was
    try:
        yield meta
        meta["status"] = "complete"
    except KeyboardInterrupt:
        meta["status"] = "interrupted"
    meta["wall_seconds"] = round(time.monotonic() - start, 1)
    _write_meta(folder, meta)


def _write_meta(folder: Path, meta: dict[str, Any]) -> None:
    text = json.dumps(meta, indent=2, allow_nan=False)
    (folder / META_FILE).write_text(f"{text}\n", encoding="utf-8")
