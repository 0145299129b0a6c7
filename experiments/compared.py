"""Arms by measures, paired over seeds: what each arm reached, and against ``s=0``."""

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from experiments.statistics import Interval, mean_interval, paired_difference

PLAIN = "s=0"
"""The arm that the others are compared with: the plain optimizer."""


class Run(Protocol):
    """What is compared: one arm at one seed.

    Attributes:
        optimizer: name of the optimizer.
        arm: ``"s=1"``, or the baseline's name.
        horizon: steps predicted ahead, None for a baseline.
    """

    @property
    def optimizer(self) -> str: ...  # noqa: D102
    @property
    def arm(self) -> str: ...  # noqa: D102
    @property
    def horizon(self) -> float | None: ...  # noqa: D102


Record = TypeVar("Record")
Compared = TypeVar("Compared", bound=Run)
Key = TypeVar("Key", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Measure:
    """One number that is read off a run.

    Attributes:
        title: what heads its column.
        value: reads it; None where the run has none.
        shortfall: says how many have one, given ``(present, seeds)`` that are not equal.
        higher_is_better: which way it improves.
    """

    title: str
    value: Callable[[Any], float | None]
    shortfall: Callable[[int, int], str]
    higher_is_better: bool = False


@dataclasses.dataclass(frozen=True)
class Cell:
    """One measure of one arm over all seeds.

    Attributes:
        interval: mean and interval over the seeds that have a value, None if no seed has.
        present: how many seeds have a value.
        seeds: how many seeds there are.
        difference: paired difference to ``s=0``. None for ``s=0`` itself, without it, and where a
            seed of either arm has no value: dropping the failures would flatter whoever fails.
    """

    interval: Interval | None
    present: int
    seeds: int
    difference: Interval | None


@dataclasses.dataclass(frozen=True)
class ArmSummary:
    """One row of the report.

    Attributes:
        optimizer: name of the optimizer.
        arm: ``"s=1"``, or the baseline's name.
        is_baseline: whether it is a baseline.
        cells: one per measure.
    """

    optimizer: str
    arm: str
    is_baseline: bool
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """How one arm fares against ``s=0`` across optimizers, by one measure.

    Attributes:
        better: optimizers whose difference excludes zero on the good side.
        worse: optimizers whose difference excludes zero on the bad side.
        compared: optimizers that have a difference with an interval.
    """

    better: int
    worse: int
    compared: int


def grouped(records: Iterable[Record], key: Callable[[Record], Key]) -> dict[Key, list[Record]]:
    """Groups records, keeping the order in which they came."""
    groups: dict[Key, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def group_by_arm(records: Iterable[Compared]) -> dict[tuple[str, str], list[Compared]]:
    """Groups records by ``(optimizer, arm)``, keeping the order in which they came."""
    return grouped(records, lambda record: (record.optimizer, record.arm))


def summarize(records: Sequence[Run], measures: Sequence[Measure]) -> list[ArmSummary]:
    """Returns one row per arm, in the order in which the arms ran."""
    groups = group_by_arm(records)
    return [
        ArmSummary(
            optimizer,
            arm,
            is_baseline=runs[0].horizon is None,
            cells=tuple(
                _cell(measure, runs, None if arm == PLAIN else groups.get((optimizer, PLAIN)))
                for measure in measures
            ),
        )
        for (optimizer, arm), runs in groups.items()
    ]


def _cell(measure: Measure, runs: list[Run], plain: list[Run] | None) -> Cell:
    values = _values(measure, runs)
    reference = _values(measure, plain) if plain else []
    complete = len(values) == len(runs) == len(reference)
    return Cell(
        interval=mean_interval(values) if values else None,
        present=len(values),
        seeds=len(runs),
        difference=paired_difference(values, reference) if complete else None,
    )


def _values(measure: Measure, runs: list[Run]) -> list[float]:
    values = (measure.value(run) for run in runs)
    return [value for value in values if value is not None]


def is_better(measure: Measure, difference: Interval) -> bool:
    """Whether a difference to ``s=0`` points the good way."""
    return (difference.mean > 0) == measure.higher_is_better


def tally(
    rows: Sequence[ArmSummary], measures: Sequence[Measure]
) -> Mapping[str, tuple[Verdicts, ...]]:
    """Counts for each horizon, and for the baselines together, who beats ``s=0`` and who loses.

    Returns:
        One entry per measure for each horizon and for ``"baselines"``; nothing where no difference
        has an interval, as without ``s=0`` or with one seed.
    """
    groups: dict[str, list[ArmSummary]] = {}
    for row in rows:
        if row.arm != PLAIN:
            groups.setdefault("baselines" if row.is_baseline else row.arm, []).append(row)
    verdicts = {
        arm: tuple(
            _verdicts(measure, [row.cells[column].difference for row in group])
            for column, measure in enumerate(measures)
        )
        for arm, group in groups.items()
    }
    return {arm: row for arm, row in verdicts.items() if any(count.compared for count in row)}


def _verdicts(measure: Measure, differences: Sequence[Interval | None]) -> Verdicts:
    compared = [difference for difference in differences if difference and difference.is_defined]
    clear = [is_better(measure, difference) for difference in compared if difference.excludes_zero]
    return Verdicts(better=clear.count(True), worse=clear.count(False), compared=len(compared))
