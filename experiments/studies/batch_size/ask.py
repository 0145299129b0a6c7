"""Which batch sizes are compared, and what that leaves."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.arms import NESTEROV, PLAIN, arm_of, read_arm
from experiments.kinds import count, seed
from experiments.options import choice, data_dir, fixed, many, names, one, output, seeds
from experiments.registered import check_apart, read_rows, row_named
from experiments.study import Study
from experiments.tasks import TASKS

REGISTERED = Path(__file__).with_name("registered.toml")

OPTIMIZERS = {"sgdm": "SGD with momentum", "adam": "Adam"}

ARMS = (PLAIN, NESTEROV, arm_of(1.0), arm_of(2.0), arm_of(3.0))
"""For Adam ``nesterov`` is NAdam."""

COMPARISONS = (
    *((arm, PLAIN) for arm in ARMS if arm != PLAIN),
    *((arm, NESTEROV) for arm in ARMS if arm not in (PLAIN, NESTEROV)),
)
"""Whose useful batches are tested, corrected together by Holm's method."""

WORSE = 1.1
"""A batch is useful while the test loss is at most so many times plain's at the smallest batch."""


class Item(NamedTuple):
    """What is tuned and trained: an arm at a batch size."""

    batch_size: int
    arm: str

    def __str__(self) -> str:
        return f"{self.arm}, batches of {self.batch_size}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments batch-size``."""

    row: str | None = one(
        str, None, "NAME", "a registered row, which says all but the folder", shown=""
    )
    task: str = choice("task", TASKS, "digits")
    optimizer: str = choice("optimizer", OPTIMIZERS, "sgdm")
    arms: tuple[str, ...] = names("arm", ARMS)
    batch_sizes: tuple[int, ...] = many(
        count, (16, 32, 64, 128, 256, 512), "N", "examples of a step", ordered=True
    )
    epochs: int = one(count, 10, "N", "passes over the training examples, at every batch size")
    seeds: tuple[int, ...] = seeds(10)
    tuning_seeds: tuple[int, ...] = many(
        seed, (1000, 1001, 1002), "N", "seeds that rates are chosen on"
    )
    data_dir: str | None = data_dir()
    output: Path | None = output()
    rates: int = fixed(5, "rates that a tuning begins with, a factor of 2 apart")
    most_rates: int = fixed(13, "rates after which it is not extended")

    def completed(self) -> "Config":
        """Reads the row, if one is asked for."""
        config = dataclasses.replace(self, **row_named(self.row, registered()))
        for arm in config.arms:
            read_arm(arm, config.optimizer)
        check_apart(config.seeds, config.tuning_seeds)
        return config

    def items(self) -> list[Item]:
        """Returns every arm at every batch size."""
        return [Item(size, arm) for size in self.batch_sizes for arm in self.arms]


def registered() -> Mapping[str, Mapping[str, Any]]:
    """Returns the registered rows by name, as fields of :class:`Config`."""
    return read_rows(REGISTERED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One arm at one batch size and rate: one line of ``runs.jsonl``; lists go by ``seeds``.

    None stands for a number that is not finite. All are measured after the last step.

    Attributes:
        batch_size: examples of a step.
        arm: its name.
        purpose: ``"tuning"`` or ``"reported"``.
        learning_rate: the rate.
        steps: number of steps of a run.
        seeds: the seeds.
        train_loss: mean loss of the training examples.
        validation_loss: that of the validation set, by which rates are chosen.
        test_loss: that of the test set.
        test_metric: the task's metric there.
    """

    batch_size: int
    arm: str
    purpose: str
    learning_rate: float
    steps: int
    seeds: list[int]
    train_loss: list[float | None]
    validation_loss: list[float | None]
    test_loss: list[float | None]
    test_metric: list[float | None]


def score_of(record: Record) -> float:
    """Returns what rates are chosen by, the mean validation loss; a run without one has lost."""
    found = [math.inf if loss is None else loss for loss in record.validation_loss]
    return sum(found) / len(found)


STUDY = Study(
    name="batch-size",
    summary="how large may a batch be at the same number of epochs, with and without prediction?",
    about=(
        "Trains every arm at every batch size for the same number of epochs, so that a larger "
        "batch has fewer steps. At every size each arm has its own rate, chosen on validation by "
        "other seeds from a grid that is extended until the best rate lies inside. A batch is "
        "useful while the test loss stays near the plain optimizer's at the smallest one. Writes "
        "report.md, loss.png, runs.jsonl and meta.json to a new folder. Ctrl-C keeps what has "
        "finished. Less than three minutes on two cores."
    ),
    config=Config,
    folder="batch-size-{task}",
    place=78,
    noun="arms",
)
