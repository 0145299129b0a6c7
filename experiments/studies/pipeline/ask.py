"""Which pipelines are compared, and what that leaves."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UsageError
from experiments.kinds import count, seed
from experiments.options import choice, data_dir, fixed, many, names, one, output, seeds
from experiments.registered import check_apart, read_rows, row_named
from experiments.studies.pipeline.arms import ARMS, EACH, NONE, UNIFORM, WAITING
from experiments.studies.pipeline.networks import NETWORKS
from experiments.study import Study

REGISTERED = Path(__file__).with_name("registered.toml")

OPTIMIZERS = {"sgdm": "SGD with momentum", "adamw": "AdamW"}

BEST = "the best horizon"
"""The arm with stashed weights and prediction that the tuning seeds like best."""

HORIZONS = (EACH, "s=tau+1", "zero-gradient", UNIFORM, "uniform-zero-gradient")

COMPARISONS = (
    (UNIFORM, EACH),
    ("uniform-zero-gradient", "zero-gradient"),
    (EACH, NONE),
    (UNIFORM, NONE),
    (BEST, WAITING),
    (BEST, "gpipe-examples"),
    (BEST, "momentum"),
    (BEST, "nesterov"),
    (BEST, "pipemare"),
    (BEST, "pipemare-corrected"),
    (BEST, "dc-asgd"),
    ("uniform-predicted", UNIFORM),
    ("uniform-current", UNIFORM),
    ("uniform-half", UNIFORM),
    ("reversed", UNIFORM),
)
"""What is tested, those of a row that has both arms corrected together by Holm's method; written
down before anything was run, but those of PipeMare, DC-ASGD and the last two, which came before
their rows.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments pipeline``."""

    row: str | None = one(
        str, None, "NAME", "a registered row, which says all but the folder", shown=""
    )
    network: str = choice("network", NETWORKS, "digits")
    optimizer: str = choice("optimizer", OPTIMIZERS, "sgdm")
    stages: int = one(count, 4, "P", "number of stages")
    arms: tuple[str, ...] = names("arm", ARMS, (WAITING, NONE, EACH, UNIFORM))
    ticks: int = one(count, 400, "N", "a forward and a backward pass of every stage each")
    seeds: tuple[int, ...] = seeds(10)
    tuning_seeds: tuple[int, ...] = many(
        seed, (1000, 1001, 1002), "N", "seeds that rates and settings are chosen on"
    )
    data_dir: str | None = data_dir()
    output: Path | None = output()
    batch_size: int = one(count, None, "N", "examples of a micro-batch", shown="the network's")
    points: int = fixed(20, "how often the training loss is measured on the way")
    rates: int = fixed(5, "rates that a tuning begins with, a factor of 2 apart")
    most_rates: int = fixed(15, "rates after which it is not extended")

    def completed(self) -> "Config":
        """Reads the row, if one is asked for."""
        config = dataclasses.replace(self, **row_named(self.row, registered()))
        if config.batch_size is None:
            config = dataclasses.replace(config, batch_size=NETWORKS[config.network].batch_size)
        check_apart(config.seeds, config.tuning_seeds)
        if config.ticks < (least := 5 * config.stages):
            raise UsageError(
                f"--ticks {config.ticks}: the longest step of GPipe with {config.stages} stages "
                f"takes {least - 1}; give at least {least}"
            )
        return config

    def items(self) -> list[str]:
        """Returns the arms."""
        return list(self.arms)


def registered() -> Mapping[str, Mapping[str, Any]]:
    """Returns the registered rows by name, as fields of :class:`Config`."""
    return read_rows(REGISTERED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One arm in one setting at one rate: one line of ``runs.jsonl``; lists go by ``seeds``.

    None stands for a number that is not finite.

    Attributes:
        arm: key into ``ARMS``.
        purpose: ``"tuning"`` or ``"reported"``.
        setting: the fields of :class:`~experiments.studies.pipeline.arms.Setting`.
        learning_rate: the rate.
        seeds: the seeds.
        train_loss: on all training examples, after the last tick.
        validation_loss: the same on the validation set.
        accuracy: there.
        start: the three before the first tick, by their names.
        at: the ticks after which the training loss was measured; none for tuning.
        curve: what it was then, ``[seeds][points]``.
    """

    arm: str
    purpose: str
    setting: dict[str, Any]
    learning_rate: float
    seeds: list[int]
    train_loss: list[float | None]
    validation_loss: list[float | None]
    accuracy: list[float | None]
    start: Mapping[str, list[float]]
    at: list[int]
    curve: list[list[float | None]]

    @property
    def diverged(self) -> list[bool]:
        """By seed, whether training ended above where it began, or nowhere."""
        pairs = zip(self.train_loss, self.start["train_loss"], strict=True)
        return [ended is None or ended > begun for ended, begun in pairs]

    def counted(self, measure: str) -> list[float]:
        """Returns a measure as it counts: runs that diverged do not drop out, they learnt nothing.

        Args:
            measure: ``"train_loss"``, ``"validation_loss"`` or ``"accuracy"``.
        """
        begun, ended = self.start[measure], getattr(self, measure)
        return [b if lost else e for lost, b, e in zip(self.diverged, begun, ended, strict=True)]


STUDY = Study(
    name="pipeline",
    summary="train in a pipeline that never waits, by horizon of its stages, and with GPipe",
    about=(
        "Trains a network, by default a residual one on digits, cut into stages. A pipeline "
        "without flush and bubble applies late gradients; each arm does something else about "
        "that, and GPipe waits instead. Every arm has its own rate, chosen by other seeds from a "
        "grid that is extended until the best rate lies inside. Simulates all stages on one "
        "device by the program that runs one stage a device. Writes report.md, two plots, "
        "runs.jsonl and meta.json to a new folder. Ctrl-C keeps the arms that have finished. Less "
        "than three minutes on two cores."
    ),
    config=Config,
    folder="pipeline",
    place=76,
)
