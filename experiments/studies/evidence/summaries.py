"""What there is of a row: its arms at their chosen rates, and costs to a target."""

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from experiments.arms import PLAIN
from experiments.statistics import Interval, mean_interval
from experiments.studies.evidence.planned import (
    chosen_rates,
    reported_specs,
    tuning,
    wanted_specs,
)
from experiments.studies.evidence.rows import Row
from experiments.task import Protocol
from experiments.training.result import FAILED, FINISHED, Point, Result


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """One arm of a row at its chosen rate.

    Attributes:
        arm: its name.
        learning_rate: the chosen rate.
        inside: whether rates on both sides of it were tried; of no meaning where none was chosen.
        results: by seed.
        reached: where the seeds that reach the row's target do so, by seed.
        lost_value: what a seed counts as that diverged, see :func:`worst_of`.
    """

    arm: str
    learning_rate: float
    inside: bool
    results: Mapping[int, Result]
    reached: Mapping[int, Point]
    lost_value: float | None

    @property
    def values(self) -> Mapping[int, float]:
        """The test metric by seed, at the epoch that is best on validation.

        Seeds that diverged do not drop out: they count as ``lost_value``.
        """
        found = {seed: _reported(result) for seed, result in self.results.items()}
        counted = {
            seed: self.lost_value if value is None else value for seed, value in found.items()
        }
        return {seed: value for seed, value in counted.items() if value is not None}

    @property
    def gradients_to_target(self) -> Mapping[int, int]:
        """Of the seeds that reach the target, gradients until then."""
        return {
            seed: point.step * self.results[seed].gradients_per_step
            for seed, point in self.reached.items()
        }

    @property
    def gradients_spent(self) -> Mapping[int, int]:
        """Of each seed, gradients until the target; if it is not reached, those of a whole run."""
        whole = {
            seed: result.steps * result.gradients_per_step for seed, result in self.results.items()
        }
        return {**whole, **self.gradients_to_target}

    @property
    def lost(self) -> int:
        """Number of seeds that diverged."""
        return sum(_reported(result) is None for result in self.results.values())

    @property
    def step_bytes(self) -> int | None:
        """What a step has in memory."""
        return next(iter(self.results.values())).step_bytes


def worst_of(results: Sequence[Result]) -> float | None:
    """Returns what a run counts as that diverged: the worst test metric of any run in its row.

    It has learnt nothing, as if it had stopped early; so what counts are, besides what is reported
    of the others, the values of all runs after their first epoch. None if there is none of either.

    Args:
        results: all runs of the row that are reported.
    """
    reported = [_reported(result) for result in results]
    first = [result.points[0].test[result.metric] for result in results if result.points]
    values = [value for value in (*reported, *first) if value is not None]
    if not values:
        return None
    return min(values) if results[0].higher_is_better else max(values)


def _reported(result: Result) -> float | None:
    """Returns the test metric of a run; None if it diverged."""
    best = result.best() if result.status == FINISHED else None
    return best.test[result.metric] if best else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowSummary:
    """A row, as far as it was run.

    Attributes:
        row: what was registered.
        data: fingerprint of what it is on; None without results.
        metric: the metric's name.
        higher_is_better: which way it improves.
        planned: number of runs, as far as the results say which they are.
        done: number of those there are results of.
        target: what arms ``reached``: the median over seeds of the plain arm's best
            validation metric. None without plain runs.
        arms: those of which all seeds are there.
    """

    row: Row
    data: str | None
    metric: str
    higher_is_better: bool
    planned: int
    done: int
    target: float | None
    arms: Sequence[ArmSummary]

    def arm(self, name: str) -> ArmSummary | None:
        """Returns an arm by its name."""
        return next((arm for arm in self.arms if arm.arm == name), None)


def summarize_row(row: Row, protocol: Protocol, results: Mapping[str, Result]) -> RowSummary:
    """Collects what there is of a row.

    Args:
        row: what was registered.
        protocol: of its task.
        results: of the row's data, by key.
    """
    known = {key: result for key, result in results.items() if result.status != FAILED}
    complete: list[tuple[str, float, Mapping[int, Result]]] = []
    done = planned = 0
    for arm in row.arms:
        rates = chosen_rates(row, protocol, arm, known)
        specs = reported_specs(row, rates, arm)
        wanted = wanted_specs(row, protocol, arm, known)
        done += sum(spec.key in known for spec in wanted)
        planned += len(wanted) if specs else len(wanted) + len(row.seeds)
        for rate in rates:
            of_rate = [spec for spec in specs if spec.learning_rate == rate]
            if all(spec.key in known for spec in of_rate):
                complete.append((arm, rate, {spec.seed: known[spec.key] for spec in of_rate}))
    plain = next((by_seed for arm, _, by_seed in complete if arm == PLAIN), None)
    target = _target(plain) if plain else None
    lost_value = worst_of([result for _, _, by_seed in complete for result in by_seed.values()])
    first = next((next(iter(by_seed.values())) for _, _, by_seed in complete), None)
    return RowSummary(
        row=row,
        data=first.data if first else None,
        metric=first.metric if first else "",
        higher_is_better=first.higher_is_better if first else True,
        planned=planned,
        done=done,
        target=target,
        arms=[
            ArmSummary(
                arm=arm,
                learning_rate=rate,
                inside=bool(row.learning_rates) or tuning(row, protocol, arm, known).inside,
                results=by_seed,
                reached=_first_at(by_seed, target),
                lost_value=lost_value,
            )
            for arm, rate, by_seed in complete
        ],
    )


def data_of(row: Row, results: Iterable[Result]) -> str | None:
    """Returns the data that a row is on: if it does not say, those of most results of its task."""
    counts = Counter(
        result.data
        for result in results
        if (result.spec.task, result.spec.preset) == (row.task, row.preset)
        and result.status != FAILED
    )
    most = counts.most_common(1)
    return row.data or (most[0][0] if most else None)


def _target(plain: Mapping[int, Result]) -> float | None:
    best = [
        point.validation[result.metric] for result in plain.values() if (point := result.best())
    ]
    return statistics.median(value for value in best if value is not None) if best else None


def _first_at(results: Mapping[int, Result], target: float | None) -> Mapping[int, Point]:
    """Returns the first point of each seed at which validation is as good as the target."""
    found = {}
    for seed, result in results.items():
        for point in result.points:
            value = point.validation[result.metric]
            if value is None or target is None:
                continue
            if value >= target if result.higher_is_better else value <= target:
                found[seed] = point
                break
    return found


def of_study(study: str, summaries: Sequence[RowSummary]) -> Sequence[RowSummary]:
    """Returns a study's rows, as far as there are results."""
    return [summary for summary in summaries if summary.row.study == study and summary.arms]


def mean_of(values: Mapping[int, float]) -> Interval | None:
    """Returns mean and interval; None of nothing."""
    return mean_interval(list(values.values())) if values else None
