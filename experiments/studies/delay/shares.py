"""How much of the loss that is due to lateness an arm gives back."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from experiments.statistics import (
    CONFIDENCE,
    Interval,
    holm,
    paired_difference,
    paired_p_value,
    ratio_interval,
)
from experiments.studies.delay.arms import AHEAD, PLAIN
from experiments.studies.delay.ask import Record
from experiments.tuning import REPORTED, TUNING, best_rate, is_inside

SYNCHRONOUS = {"s = 0": PLAIN, "s = 1": AHEAD}
"""What is meant by no delay -> the arm that says so at a delay of 0."""


@dataclasses.dataclass(frozen=True)
class Share:
    """A cell of a table.

    Attributes:
        interval: the share in percent; None where lateness costs nothing that the seeds can show.
        p_value: that the arm does as plain late training does, adjusted over the table.
        better: whether it does better on average.
    """

    interval: Interval | None
    p_value: float
    better: bool

    @property
    def verdict(self) -> str:
        """``"better"`` or ``"worse"`` than plain late training, or nothing."""
        if not self.p_value < 1 - CONFIDENCE:
            return ""
        return "better" if self.better else "worse"


Cell = tuple[str, int]
"""An arm and a delay."""


def reported(records: Iterable[Record], optimizer: str) -> Mapping[Cell, Record]:
    """Returns the reported records of an optimizer by arm and delay."""
    return {
        (record.arm, record.delay): record
        for record in records
        if record.purpose == REPORTED and record.optimizer == optimizer
    }


def shares(runs: Mapping[Cell, Record], measure: str, synchronous: str) -> Mapping[Cell, Share]:
    r"""Returns the share of the loss due to lateness that each arm gives back.

    .. math::
        \frac{\text{plain late} - \text{arm}}{\text{plain late} - \text{synchronous}}

    of means over seeds, paired by seed.

    Args:
        runs: of :func:`reported`.
        measure: a loss, as for :meth:`Record.counted`.
        synchronous: key into ``SYNCHRONOUS``.
    """
    reference = runs.get((SYNCHRONOUS[synchronous], 0))
    compared = [cell for cell in runs if cell[1] and cell[0] != PLAIN and (PLAIN, cell[1]) in runs]
    if reference is None:
        return {}
    found = []
    for arm, delay in compared:
        late, own = (runs[name, delay].counted(measure) for name in (PLAIN, arm))
        gained = paired_difference(late, own)
        lost = paired_difference(late, reference.counted(measure))
        interval = None
        if lost.mean > 0 and lost.excludes_zero:
            interval = _share(late, own, reference.counted(measure))
        found.append(Share(interval, paired_p_value(late, own), gained.mean > 0))
    adjusted = holm([share.p_value for share in found])
    return {
        cell: dataclasses.replace(share, p_value=p_value)
        for cell, share, p_value in zip(compared, found, adjusted, strict=True)
    }


def _share(late: Sequence[float], own: Sequence[float], synchronous: Sequence[float]) -> Interval:
    gained = [one - other for one, other in zip(late, own, strict=True)]
    lost = [one - other for one, other in zip(late, synchronous, strict=True)]
    ratio, half_width = ratio_interval(gained, lost)
    return Interval(100 * ratio, 100 * half_width)


def best_is_inside(record: Record, records: Iterable[Record], measure: str) -> bool:
    """Whether the rate of a reported record lies strictly inside of the grid it was chosen from."""
    scores = {
        round(math.log2(other.learning_rate / record.learning_rate)): _mean(other, measure)
        for other in records
        if other.purpose == TUNING
        and (other.optimizer, other.delay, other.arm, other.setting)
        == (record.optimizer, record.delay, record.arm, record.setting)
    }
    return bool(scores) and best_rate(scores) == 0 and is_inside(0, scores)


def _mean(record: Record, measure: str) -> float:
    values = record.counted(measure)
    return sum(values) / len(values)
