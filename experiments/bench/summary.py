"""From records to the numbers of the report: every variant against the plain step beside it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.bench.config import Group
from experiments.bench.records import BenchRecord
from experiments.bench.variants import PLAIN
from experiments.statistics import Bounds, median_interval


class Extra(NamedTuple):
    """A figure of one variant beside the plain step's.

    Attributes:
        value: the variant's.
        plain: the plain step's.
    """

    value: int
    plain: int

    @property
    def difference(self) -> int:
        """What the variant adds."""
        return self.value - self.plain


class Comparison(NamedTuple):
    """One variant and the plain step of its group.

    Attributes:
        record: the variant.
        plain: the plain step.
        step_ratio: its step time over the plain step's of the same round: median, 95 % interval.
        compile_ratio: its median compile time over the plain step's.
    """

    record: BenchRecord
    plain: BenchRecord
    step_ratio: Bounds
    compile_ratio: float

    @property
    def is_plain(self) -> bool:
        """Whether the variant is the plain step itself."""
        return self.record.variant == PLAIN

    def extra(self, figure: Callable[[BenchRecord], int]) -> Extra:
        """Returns a figure of both."""
        return Extra(figure(self.record), figure(self.plain))


def compare(records: Sequence[BenchRecord]) -> dict[Group, list[Comparison]]:
    """Returns the comparisons of each group, in the order in which they ran."""
    groups: dict[Group, list[BenchRecord]] = {}
    for record in records:
        group = Group(record.model, record.optimizer, record.batch_size)
        groups.setdefault(group, []).append(record)
    return {
        group: [_compare(record, _plain(members)) for record in members]
        for group, members in groups.items()
    }


def _plain(members: Sequence[BenchRecord]) -> BenchRecord:
    return next(record for record in members if record.variant == PLAIN)


def _compare(record: BenchRecord, plain: BenchRecord) -> Comparison:
    steps, plain_steps = np.array(record.timed.step_seconds), np.array(plain.timed.step_seconds)
    compiling, plain_compiling = (np.median(each.timed.compile_seconds) for each in (record, plain))
    return Comparison(
        record,
        plain,
        step_ratio=median_interval(steps / plain_steps),
        compile_ratio=float(compiling / plain_compiling),
    )
