"""From records to the numbers of the report: every arm against the best plain batch size."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.compared import grouped
from experiments.statistics import Interval, mean_interval, paired_difference
from experiments.studies.predict_gradients.ask import PLAIN, Record

# Of the best plain arm's budget: where the target accuracy is read.
_TARGET_AT = 0.8


class Reached(NamedTuple):
    """What the target accuracy cost.

    Attributes:
        interval: over the seeds that reached it; None if none did.
        present: how many did.
        seeds: of how many.
    """

    interval: Interval | None
    present: int
    seeds: int


class ArmSummary(NamedTuple):
    """One arm over all seeds.

    Attributes:
        records: one per seed.
        is_reference: whether it is the best plain arm.
        at_equal_time: validation accuracy at the longest time that all arms trained.
        time_difference: its paired difference to the best plain arm.
        at_equal_flops: validation accuracy at the largest number of operations that all arms made.
        flops_difference: its paired difference.
        loss_difference: paired difference of the validation loss when the budget is used up.
        seconds_to_target: own clock at the target accuracy.
        flops_to_target: operations at the target accuracy.
        test_accuracy: after the last step.
    """

    records: list[Record]
    is_reference: bool
    at_equal_time: Interval
    time_difference: Interval
    at_equal_flops: Interval
    flops_difference: Interval
    loss_difference: Interval
    seconds_to_target: Reached
    flops_to_target: Reached
    test_accuracy: Interval

    @property
    def arm(self) -> str:
        """The arm's name."""
        return self.records[0].arm


def by_arm(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each arm, by seed."""
    return grouped(records, lambda record: record.arm)


def best_plain(records: Sequence[Record]) -> str:
    """The plain arm with the highest mean validation accuracy when its budget is used up."""
    arms = {name: runs for name, runs in by_arm(records).items() if runs[0].kind == PLAIN}
    return max(arms, key=lambda name: float(np.mean([run.accuracy[-1] for run in arms[name]])))


def target_accuracy(records: Sequence[Record], given: float | None) -> float:
    """The target: as given, or what the best plain arm has after 80 % of its budget."""
    if given is not None:
        return given
    runs = by_arm(records)[best_plain(records)]
    return float(np.mean([_at(run.flops, run, _TARGET_AT * run.flops[-1]) for run in runs]))


def summarize(records: Sequence[Record], target: float) -> list[ArmSummary]:
    """Returns one summary for each arm, in the order in which they ran."""
    reference, arms = best_plain(records), by_arm(records)
    shared_flops = min(run.flops[-1] for run in records)
    shared_seconds = min(run.seconds[-1] for run in records)

    def by_time(name: str) -> list[float]:
        return [_at(run.seconds, run, shared_seconds) for run in arms[name]]

    def by_flops(name: str) -> list[float]:
        return [_at(run.flops, run, shared_flops) for run in arms[name]]

    def losses(name: str) -> list[float]:
        return [np.nan if run.loss[-1] is None else run.loss[-1] for run in arms[name]]

    return [
        ArmSummary(
            records=runs,
            is_reference=name == reference,
            at_equal_time=mean_interval(by_time(name)),
            time_difference=paired_difference(by_time(name), by_time(reference)),
            at_equal_flops=mean_interval(by_flops(name)),
            flops_difference=paired_difference(by_flops(name), by_flops(reference)),
            loss_difference=paired_difference(losses(name), losses(reference)),
            seconds_to_target=_reached([_cost(run.seconds, run, target) for run in runs]),
            flops_to_target=_reached([_cost(run.flops, run, target) for run in runs]),
            test_accuracy=mean_interval(
                [np.nan if run.test_accuracy is None else run.test_accuracy for run in runs]
            ),
        )
        for name, runs in arms.items()
    ]


def _at(axis: Sequence[float], run: Record, place: float) -> float:
    return float(np.interp(place, axis, run.accuracy))


def _cost(axis: Sequence[float], run: Record, target: float) -> float | None:
    """Where the accuracy first is at the target, linear between checkpoints."""
    reached = next((i for i, accuracy in enumerate(run.accuracy) if accuracy >= target), None)
    if reached is None or reached == 0:
        return None if reached is None else axis[0]
    before, after = run.accuracy[reached - 1 : reached + 1]
    share = (target - before) / (after - before)
    return axis[reached - 1] + share * (axis[reached] - axis[reached - 1])


def _reached(costs: Sequence[float | None]) -> Reached:
    present = [cost for cost in costs if cost is not None]
    return Reached(mean_interval(present) if present else None, len(present), len(costs))
