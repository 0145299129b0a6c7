"""What is tested: registered pairs of arms on both measures, corrected together."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from experiments import tuning
from experiments.statistics import Interval, holm, outcome, paired_difference, paired_p_value
from experiments.studies.agents.ask import (
    COMPARISONS,
    MEASURES,
    REPORTED,
    TUNING,
    Config,
    Record,
    score_of,
)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One comparison of two arms, paired by seed.

    Attributes:
        measure: key into ``MEASURES``.
        arm: the first.
        reference: the other.
        difference: of the measure, the first less the other.
        p_value: of no difference, by Student's t, adjusted for all comparisons.
    """

    measure: str
    arm: str
    reference: str
    difference: Interval
    p_value: float

    @property
    def text(self) -> str:
        """What is found at 5 %; high returns are good."""
        return outcome(self.difference.mean, self.p_value, higher_is_better=True)


def reported(records: Iterable[Record]) -> Mapping[str, Record]:
    """Returns the reported records by arm."""
    return {record.arm: record for record in records if record.purpose == REPORTED}


def verdicts(records: Sequence[Record]) -> list[Verdict]:
    """Returns the registered comparisons of which both arms are there."""
    runs = reported(records)
    found = [
        Verdict(
            measure,
            arm,
            reference,
            paired_difference(*(values := _pair(runs, measure, arm, reference))),
            paired_p_value(*values),
        )
        for measure in MEASURES
        for arm, reference in COMPARISONS
        if arm in runs and reference in runs
    ]
    adjusted = holm([verdict.p_value for verdict in found])
    return [
        dataclasses.replace(verdict, p_value=p_value)
        for verdict, p_value in zip(found, adjusted, strict=True)
    ]


def _pair(
    runs: Mapping[str, Record], measure: str, *arms: str
) -> tuple[Sequence[float], Sequence[float]]:
    one, other = (getattr(runs[arm], measure) for arm in arms)
    return one, other


def best_is_inside(record: Record, records: Iterable[Record], config: Config) -> bool:
    """Whether the rate of a reported record lies strictly inside of the grid it was chosen from."""
    tried = (
        (other.learning_rate, score_of(other, config))
        for other in records
        if other.arm == record.arm and other.purpose == TUNING
    )
    return tuning.best_is_inside(tuning.by_place(tried))
