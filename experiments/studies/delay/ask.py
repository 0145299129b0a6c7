"""How late gradients are, what is done about it, and what that leaves."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.kinds import count, delay, seed
from experiments.options import choice, data_dir, derived, fixed, many, names, one, output, seeds
from experiments.registered import check_apart, read_rows, row_named
from experiments.studies.delay.arms import ARMS
from experiments.study import Study
from experiments.tasks import TASKS

REGISTERED = Path(__file__).with_name("registered.toml")

JUDGED = "train_loss"
"""What rates are chosen by and arms are judged by: being late is a matter of optimization."""

OPTIMIZERS = {"sgdm": "SGD with momentum", "adamw": "AdamW"}


class Scale(NamedTuple):
    """How long a task is trained, by what two cores can do.

    Attributes:
        updates: number of updates that are applied.
        batch_size: examples per step, None for the task's.
        at_once: runs that one program trains side by side; 1 where that is no faster.
        rates: rates that a tuning begins with.
        measured: training examples that the training loss is measured on, at most.
    """

    updates: int = 1_000
    batch_size: int | None = None
    at_once: int = 1
    rates: int = 3
    measured: int = 2_000


SCALES: Mapping[str, Scale] = {
    "digits": Scale(updates=400, at_once=15, rates=5),
    "lenet-patches": Scale(batch_size=16),
    "decoder": Scale(batch_size=4, measured=400),
    "decoder-tiny": Scale(measured=500),
}


class Item(NamedTuple):
    """One arm of an optimizer at one delay."""

    optimizer: str
    delay: int
    arm: str

    def __str__(self) -> str:
        return f"{self.optimizer} τ={self.delay} {self.arm}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments delay``."""

    row: str | None = one(
        str, None, "NAME", "a registered row, which says all but the folders", shown=""
    )
    task: str = choice("task", TASKS, "digits")
    optimizers: tuple[str, ...] = names("optimizer", OPTIMIZERS, ("sgdm",))
    delays: tuple[int, ...] = many(
        delay, (0, 1, 2, 4, 8, 16), "N", "updates that gradients are late", ordered=True
    )
    arms: tuple[str, ...] = names("arm", ARMS, shown="all")
    updates: int = one(count, None, "N", "updates that are applied", shown="the task's")
    seeds: tuple[int, ...] = seeds(10)
    tuning_seeds: tuple[int, ...] = many(
        seed, (1000, 1001, 1002), "N", "seeds that rates and settings are chosen on"
    )
    data_dir: str | None = data_dir()
    output: Path | None = output()
    batch_size: int | None = derived("examples per step, None for the task's")
    at_once: int = derived("runs side by side")
    rates: int = derived("rates that a tuning begins with, a factor of 2 apart")
    most_rates: int = fixed(15, "rates after which it is not extended")
    measured: int = derived("training examples that the training loss is measured on, at most")

    def completed(self) -> "Config":
        """Reads the row, if one is asked for, and what the task says."""
        config = dataclasses.replace(self, **row_named(self.row, registered()))
        check_apart(config.seeds, config.tuning_seeds)
        scale = SCALES.get(config.task, Scale())
        return dataclasses.replace(
            config, **scale._asdict() | {"updates": config.updates or scale.updates}
        )

    def items(self) -> list[Item]:
        """Returns the arms of each optimizer by delay; without delay only a few make sense."""
        return [
            Item(optimizer, delay, arm)
            for optimizer in self.optimizers
            for delay in self.delays
            for arm in self.arms
            if delay or ARMS[arm].synchronous
        ]


def registered() -> Mapping[str, Mapping[str, Any]]:
    """Returns the registered rows by name, as fields of :class:`Config`."""
    return read_rows(REGISTERED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One arm in one setting at one rate: one line of ``runs.jsonl``; lists go by ``seeds``.

    None stands for a number that is not finite.

    Attributes:
        optimizer: name of the optimizer.
        delay: updates that gradients are late.
        arm: key into ``ARMS``.
        purpose: ``"tuning"`` or ``"reported"``.
        setting: the fields of :class:`~experiments.studies.delay.arms.Setting`.
        learning_rate: the rate.
        seeds: the seeds.
        train_loss: after the last update.
        validation_loss: the same.
        validation_metric: the same.
        start: the three before the first update.
    """

    optimizer: str
    delay: int
    arm: str
    purpose: str
    setting: dict[str, Any]
    learning_rate: float
    seeds: list[int]
    train_loss: list[float | None]
    validation_loss: list[float | None]
    validation_metric: list[float | None]
    start: Mapping[str, list[float]]

    @property
    def diverged(self) -> list[bool]:
        """By seed, whether training ended above where it began, or nowhere."""
        ended = zip(self.train_loss, self.validation_loss, self.validation_metric, strict=True)
        return [
            train is None or None in rest or train > begun
            for (train, *rest), begun in zip(ended, self.start["train_loss"], strict=True)
        ]

    def counted(self, measure: str) -> list[float]:
        """Returns a measure as it counts: runs that diverged do not drop out, they learnt nothing.

        Args:
            measure: ``"train_loss"``, ``"validation_loss"`` or ``"validation_metric"``.
        """
        begun, ended = self.start[measure], getattr(self, measure)
        return [b if lost else e for lost, b, e in zip(self.diverged, begun, ended, strict=True)]


STUDY = Study(
    name="delay",
    summary="train with gradients that arrive late, with and without prediction",
    about=(
        "Trains with gradients that are applied a number of updates after they were taken, and "
        "says how much of the loss due to that each arm gives back. Every arm has its own rate, "
        "chosen by other seeds from a grid that is extended until the best rate lies inside. "
        "Writes report.md, delays.png, runs.jsonl and meta.json to a new folder. Ctrl-C keeps the "
        "arms that have finished. A few minutes for each optimizer on digits on two cores, half of "
        "them for the arm in-flight."
    ),
    config=Config,
    folder="delay-{task}",
    item_name=str,
    place=75,
)
