"""Which runs a row asks for: those that choose its learning rates, and those that are reported."""

import math
from collections.abc import Mapping, Sequence

from experiments.studies.evidence.rows import Row
from experiments.task import Protocol
from experiments.training.result import Result, RunSpec


def rates_of(row: Row, protocol: Protocol) -> Sequence[float]:
    """Returns the grid of a row."""
    return row.learning_rates or protocol.learning_rates[row.optimizer]


def tuning_specs(row: Row, protocol: Protocol, arm: str) -> list[RunSpec]:
    """Returns the runs that an arm's learning rate is chosen by; none if there is no choice."""
    rates = rates_of(row, protocol)
    if row.every_rate or len(rates) == 1:
        return []
    return [_spec(row, arm, rate, seed) for rate in rates for seed in row.tuning_seeds]


def reported_specs(row: Row, rates: Sequence[float], arm: str) -> list[RunSpec]:
    """Returns the runs that are reported, at the chosen rates."""
    return [_spec(row, arm, rate, seed) for rate in rates for seed in row.seeds]


def _spec(row: Row, arm: str, rate: float, seed: int) -> RunSpec:
    return RunSpec(
        task=row.task,
        preset=row.preset,
        optimizer=row.optimizer,
        arm=arm,
        learning_rate=rate,
        seed=seed,
        weight_decay=row.weight_decay,
    )


def chosen_rates(
    row: Row, protocol: Protocol, arm: str, results: Mapping[str, Result]
) -> Sequence[float]:
    """Returns the rates that an arm is reported at, given the results of tuning.

    The rate with the best mean over tuning seeds of the best validation metric; a run that
    diverged counts as the worst. All rates if the row asks for that; none while runs are missing.
    """
    rates = rates_of(row, protocol)
    tuning = tuning_specs(row, protocol, arm)
    if not tuning:
        return rates
    if any(spec.key not in results for spec in tuning):
        return ()

    def merit(rate: float) -> float:
        runs = [results[spec.key] for spec in tuning if spec.learning_rate == rate]
        return sum(map(_merit, runs)) / len(runs)

    return (max(rates, key=merit),)


def _merit(result: Result) -> float:
    best = result.best() if result.status == "finished" else None
    value = best and best.validation[result.metric]
    if value is None:
        return -math.inf
    return value if result.higher_is_better else -value


def count_runs(row: Row, protocol: Protocol) -> int:
    """Returns how many runs a row has in all."""
    rates = len(rates_of(row, protocol)) if row.every_rate else 1
    return sum(len(tuning_specs(row, protocol, arm)) + rates * len(row.seeds) for arm in row.arms)
