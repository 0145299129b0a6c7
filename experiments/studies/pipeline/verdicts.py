"""What is tested: registered pairs of arms, corrected together."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from experiments import tuning
from experiments.statistics import Interval, holm, outcome, paired_difference, paired_p_value
from experiments.studies.pipeline.ask import (
    BEST,
    COMPARISONS,
    HORIZONS,
    REPORTED,
    TUNING,
    Record,
)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One comparison of the training losses of two arms, paired by seed.

    Attributes:
        arm: the first, as it was registered.
        chosen: which arm that is.
        reference: the other.
        difference: the first less the other.
        p_value: of no difference, by Student's t, adjusted for all comparisons.
    """

    arm: str
    chosen: str
    reference: str
    difference: Interval
    p_value: float

    @property
    def text(self) -> str:
        """What is found at 5 %."""
        return outcome(self.difference.mean, self.p_value, higher_is_better=False)


def reported(records: Iterable[Record]) -> Mapping[str, Record]:
    """Returns the reported records by arm."""
    return {record.arm: record for record in records if record.purpose == REPORTED}


def best_horizon(records: Sequence[Record]) -> str | None:
    """Returns the arm of ``HORIZONS`` that the tuning seeds like best; None if there is none."""
    scores = {
        arm: min(_mean(other) for other in records if _is_tuning(other, arm))
        for arm in reported(records)
        if arm in HORIZONS
    }
    return min(scores, key=scores.__getitem__) if scores else None


def verdicts(records: Sequence[Record]) -> list[Verdict]:
    """Returns the registered comparisons of which both arms are there."""
    runs, best = reported(records), best_horizon(records) or BEST
    pairs = [(arm, best if arm == BEST else arm, other) for arm, other in COMPARISONS]
    present = [pair for pair in pairs if pair[1] in runs and pair[2] in runs]
    losses = {arm: run.counted("train_loss") for arm, run in runs.items()}
    adjusted = holm([paired_p_value(losses[one], losses[other]) for _, one, other in present])
    return [
        Verdict(arm, one, other, paired_difference(losses[one], losses[other]), p_value)
        for (arm, one, other), p_value in zip(present, adjusted, strict=True)
    ]


def best_is_inside(record: Record, records: Iterable[Record]) -> bool:
    """Whether the rate of a reported record lies strictly inside of the grid it was chosen from."""
    tried = (
        (other.learning_rate, _mean(other))
        for other in records
        if _is_tuning(other, record.arm) and other.setting == record.setting
    )
    return tuning.best_is_inside(tuning.by_place(tried))


def _is_tuning(record: Record, arm: str) -> bool:
    return record.arm == arm and record.purpose == TUNING


def _mean(record: Record) -> float:
    return fmean(record.counted("train_loss"))
