"""What is tested: registered pairs of arms, corrected together."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from experiments import tuning
from experiments.studies.pipeline.ask import (
    BEST,
    COMPARISONS,
    HORIZONS,
    Record,
)
from experiments.tested import Pair, Verdict, tested
from experiments.tuning import REPORTED, TUNING


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
    """Returns the registered comparisons, of training losses, of which both arms are there."""
    runs, best = reported(records), best_horizon(records) or BEST
    losses = {arm: run.counted("train_loss") for arm, run in runs.items()}
    found = ((arm, best if arm == BEST else arm, other) for arm, other in COMPARISONS)
    pairs = (
        Pair(one if one == arm else f"{arm}: {one}", other, losses[one], losses[other])
        for arm, one, other in found
        if one in runs and other in runs
    )
    return tested(pairs, higher_is_better=False)


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
