"""One run and its result: a line of JSON that may be cut off."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

FINISHED, DIVERGED, FAILED = "finished", "diverged", "failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training run.

    Attributes:
        task: key into ``TASKS``.
        preset: ``"cpu"`` or ``"paper"``.
        optimizer: key into ``arms.OPTIMIZERS``.
        arm: as for :func:`~experiments.arms.read_arm`.
        learning_rate: the rate that the schedule is multiplied by.
        seed: decides initial parameters, order and all else that is random.
        epochs: passes over the training set, None for the task's.
        weight_decay: None for the task's.
    """

    task: str
    preset: str
    optimizer: str
    arm: str
    learning_rate: float
    seed: int
    epochs: int | None = None
    weight_decay: float | None = None

    @property
    def key(self) -> str:
        """A name for files, the same for the same run."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return f"{self.task}-{self.optimizer}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def folder_name(self) -> str:
        """A name for a folder that says what was run; it ends as ``key`` does."""
        arm, number = self.arm.replace("/", "-"), self.key.rpartition("-")[2]
        return (
            f"{self.task}-{self.optimizer}-{arm}-rate={self.learning_rate:g}-seed={self.seed}-"
            f"{number}"
        )

    def __str__(self) -> str:
        """The run in a line."""
        decay = "" if self.weight_decay is None else f" decay {self.weight_decay:g}"
        return (
            f"{self.task} {self.optimizer} {self.arm} rate {self.learning_rate:g}{decay} "
            f"seed {self.seed}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """What was measured after an epoch; None stands for a number that is not finite.

    Attributes:
        epoch: passes so far.
        step: steps so far.
        seconds: time in training steps so far, without compilation and measuring.
        train_loss: mean over the epoch's batches, where their gradients were taken.
        validation: measures by name.
        test: measures by name.
    """

    epoch: int
    step: int
    seconds: float
    train_loss: float | None
    validation: Mapping[str, float | None]
    test: Mapping[str, float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One run and what came of it: one line of a results file.

    Attributes:
        spec: what was run.
        status: ``"finished"``, ``"diverged"`` (the loss was not finite) or ``"failed"``.
        metric: name of the measure that the task is judged by.
        higher_is_better: which way it improves.
        parameters: number of trained numbers.
        steps: steps of the whole run.
        gradients_per_step: 2 for SAM, else 1.
        points: what was measured, in order.
        compile_seconds: of the step; 0 if an earlier run had compiled it.
        wall_seconds: of everything.
        step_bytes: what a step has in memory, arguments and all.
        error: what failed, None otherwise.
        environment: date, versions, device, commit.
        data: :func:`~experiments.task.fingerprint` of what was trained and measured on; None if
            the run failed.
        at_once: number of runs that a step was for; times are this one's share.
    """

    spec: RunSpec
    status: str
    metric: str
    higher_is_better: bool
    parameters: int
    steps: int
    gradients_per_step: int
    points: Sequence[Point]
    compile_seconds: float
    wall_seconds: float
    step_bytes: int | None
    error: str | None
    environment: Mapping[str, Any]
    data: str | None
    at_once: int = 1

    def best(self) -> Point | None:
        """Returns the point with the best validation metric; None if there is none."""
        measured = [point for point in self.points if point.validation[self.metric] is not None]
        sign = 1 if self.higher_is_better else -1
        return max(
            measured, key=lambda point: sign * (point.validation[self.metric] or 0), default=None
        )

    def outcome(self) -> str:
        """Returns how it ended and what is reported of it, in a line."""
        best = self.best()
        if best is None:
            return self.status
        return (
            f"{self.status}; test {self.metric} {best.test[self.metric]} at epoch {best.epoch}, "
            "the best on validation"
        )


def read_results(files: Iterable[Path]) -> tuple[list[Result], list[str]]:
    """Reads results files.

    Returns:
        The results, the last line of a run on some data winning, and a complaint for each line that
        is none. Lines that do not say what data they are of were written before that was recorded:
        they are none, and a file has one complaint of all of them.
    """
    found: dict[tuple[str, str | None], Result] = {}
    complaints = []
    for file in files:
        try:
            lines = file.read_bytes().splitlines()
        except OSError as error:
            complaints.append(f"{file.name}: cannot be read ({error.strerror})")
            continue
        older = 0
        for number, line in enumerate(lines, 1):
            try:
                result = _read(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                complaints.append(f"{file.name}, line {number}: no result, skipped ({error})")
                continue
            if result:
                found[result.spec.key, result.data] = result
            older += not result
        if older:
            complaints.append(
                f"{file.name}: {older} lines do not say what data they are of and are skipped"
            )
    return list(found.values()), complaints


def _read(fields: dict[str, Any]) -> Result | None:
    """Reads a line; None if it does not say what data it is of."""
    spec, points = RunSpec(**fields.pop("spec")), fields.pop("points")
    if "data" not in fields:
        return None
    return Result(spec=spec, points=[Point(**point) for point in points], **fields)
