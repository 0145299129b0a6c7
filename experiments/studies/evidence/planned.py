"""Which runs a row asks for: those that choose its learning rates, and those that are reported."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from experiments.studies.evidence.rows import Row
from experiments.task import Protocol
from experiments.training.result import FINISHED, Result, RunSpec
from experiments.tuning import Scores, best_is_inside, best_rate, extension

PERCENT = 100.0
"""What metrics that are better when higher end at: their loss is what is missing of it."""


class Tuning(NamedTuple):
    """How far the choice of an arm's learning rate has come.

    Attributes:
        specs: the runs that it asks for so far.
        scores: the mean loss over tuning seeds, by exponent of 2; of rates that all have run.
        complete: whether a rate can be chosen.
    """

    specs: Sequence[RunSpec]
    scores: Scores
    complete: bool

    @property
    def inside(self) -> bool:
        """Whether the best rate lies strictly inside of those that were tried."""
        return best_is_inside(self.scores)


def tuning(row: Row, protocol: Protocol, arm: str, results: Mapping[str, Result]) -> Tuning:
    """Returns what the choice of an arm's rate asks for, given all results by key."""
    specs, scores, rates = [], {}, row.first_rates
    while rates:
        of_rates = {rate: _tuning_specs(row, protocol, arm, rate) for rate in rates}
        wanted = [spec for of_rate in of_rates.values() for spec in of_rate]
        specs += wanted
        if any(spec.key not in results for spec in wanted):
            return Tuning(specs, scores, complete=False)
        for rate, of_rate in of_rates.items():
            scores[rate] = fmean(_loss(results[spec.key]) for spec in of_rate)
        rates = extension(scores, row.most_rates)
    return Tuning(specs, scores, complete=True)


def chosen_rates(
    row: Row, protocol: Protocol, arm: str, results: Mapping[str, Result]
) -> Sequence[float]:
    """Returns the rates that an arm is reported at; none while runs that choose it are missing."""
    if row.learning_rates:
        return row.learning_rates
    found = tuning(row, protocol, arm, results)
    return (_rate(row, protocol, best_rate(found.scores)),) if found.complete else ()


def reported_specs(row: Row, rates: Sequence[float], arm: str) -> list[RunSpec]:
    """Returns the runs that are reported, at the chosen rates."""
    return [_spec(row, arm, rate, seed) for rate in rates for seed in row.seeds]


def wanted_specs(
    row: Row, protocol: Protocol, arm: str, results: Mapping[str, Result]
) -> list[RunSpec]:
    """Returns all runs that an arm asks for, as far as the results so far say which these are."""
    chosen_by = () if row.learning_rates else tuning(row, protocol, arm, results).specs
    rates = chosen_rates(row, protocol, arm, results)
    return [*chosen_by, *reported_specs(row, rates, arm)]


def count_runs(row: Row) -> int:
    """Returns how many runs a row has at least: grids may be extended."""
    if row.learning_rates:
        of_arm = len(row.learning_rates) * len(row.seeds)
    else:
        of_arm = len(row.first_rates) * len(row.tuning_seeds) + len(row.seeds)
    return len(row.arms) * of_arm


def results_on(
    data: str | None, row: Row, results: Iterable[Result]
) -> tuple[dict[str, Result], str | None]:
    """Returns the results of a row's task on some data, and what to say of those on other data.

    Args:
        data: the fingerprint.
        row: the row.
        results: any results.

    Returns:
        Those that count, by key, and a word on the others; None if there are none, or if the row
        says what data it is on, so that nobody can miss them.
    """
    of_task = [
        result
        for result in results
        if (result.spec.task, result.spec.preset) == (row.task, row.preset)
    ]
    found = {result.spec.key: result for result in of_task if result.data == data}
    others = sum(result.data != data for result in of_task)
    if not others or row.data:
        return found, None
    return found, (
        f"row {row.name}: {others} results of {row.task} are on other data than {data} and do not "
        "count"
    )


def _tuning_specs(row: Row, protocol: Protocol, arm: str, rate: int) -> list[RunSpec]:
    return [_spec(row, arm, _rate(row, protocol, rate), seed) for seed in row.tuning_seeds]


def _rate(row: Row, protocol: Protocol, exponent: int) -> float:
    return protocol.learning_rates[row.optimizer] * 2.0**exponent


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


def _loss(result: Result) -> float:
    """Returns the best validation metric, turned so that lower is better; a lost run's is inf."""
    best = result.best() if result.status == FINISHED else None
    value = best and best.validation[result.metric]
    if value is None:
        return math.inf
    return PERCENT - value if result.higher_is_better else value
