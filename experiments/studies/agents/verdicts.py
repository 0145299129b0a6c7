"""What is tested: registered pairs of arms on both measures, corrected together."""

from collections.abc import Iterable, Mapping, Sequence

from experiments import tuning
from experiments.studies.agents.ask import (
    COMPARISONS,
    MEASURES,
    Config,
    Record,
    score_of,
)
from experiments.tested import Pair, Verdict, tested
from experiments.tuning import REPORTED, TUNING


def reported(records: Iterable[Record]) -> Mapping[str, Record]:
    """Returns the reported records by arm."""
    return {record.arm: record for record in records if record.purpose == REPORTED}


def verdicts(records: Sequence[Record]) -> list[Verdict]:
    """Returns the registered comparisons of which both arms are there; high returns are good."""
    runs = reported(records)
    pairs = (
        Pair(arm, other, getattr(runs[arm], measure), getattr(runs[other], measure), measure)
        for measure in MEASURES
        for arm, other in COMPARISONS
        if arm in runs and other in runs
    )
    return tested(pairs, higher_is_better=True)


def best_is_inside(record: Record, records: Iterable[Record], config: Config) -> bool:
    """Whether the rate of a reported record lies strictly inside of the grid it was chosen from."""
    tried = (
        (other.learning_rate, score_of(other, config))
        for other in records
        if other.arm == record.arm and other.purpose == TUNING
    )
    return tuning.best_is_inside(tuning.by_place(tried))
