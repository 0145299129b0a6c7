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
    """

    arm: str
    learning_rate: float
    inside: bool
    results: Mapping[int, Result]
    reached: Mapping[int, Point]

    @property
    def values(self) -> Mapping[int, float]:
        """The test metric at the epoch that is best on validation, of seeds that have one."""
        found = {}
        for seed, result in self.results.items():
            best = result.best() if result.status == FINISHED else None
            value = best.test[result.metric] if best else None
            if value is not None:
                found[seed] = value
        return found

    @property
    def gradients_to_target(self) -> Mapping[int, int]:
        """Of the seeds that reach the target, gradients until then."""
        return {
            seed: point.step * self.results[seed].gradients_per_step
            for seed, point in self.reached.items()
        }

    @property
    def seconds_to_target(self) -> Mapping[int, float]:
        """The same in seconds of training, at ``seconds_per_step``."""
        return {seed: point.step * self.seconds_per_step for seed, point in self.reached.items()}

    @property
    def lost(self) -> int:
        """Number of seeds that diverged or failed."""
        return sum(result.status != FINISHED for result in self.results.values())

    @property
    def seconds_per_step(self) -> float:
        """That of the fastest seed: on a shared machine the others were held up by something."""
        return min(
            result.points[-1].seconds / result.points[-1].step
            for result in self.results.values()
            if result.points
        )

    @property
    def step_bytes(self) -> int | None:
        """What a step has in memory."""
        return next(iter(self.results.values())).step_bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowSummary:
    """A row, as far as it was run.

    Attributes:
        row: what was registered.
        metric: the metric's name.
        higher_is_better: which way it improves.
        planned: number of runs, as far as the results say which they are.
        done: number of those there are results of.
        target: what arms ``reached``: the median over seeds of the plain arm's best
            validation metric. None without plain runs.
        arms: those of which all seeds are there.
    """

    row: Row
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
    first = next((next(iter(by_seed.values())) for _, _, by_seed in complete), None)
    return RowSummary(
        row=row,
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
            )
            for arm, rate, by_seed in complete
        ],
    )


def results_for(row: Row, results: Iterable[Result]) -> Mapping[str, Result]:
    """Returns by key the results on the row's data; on those of most results if it names none."""
    same = [
        result
        for result in results
        if (result.spec.task, result.spec.preset) == (row.task, row.preset)
    ]
    most = Counter(result.data for result in same).most_common(1)
    data = row.data or (most[0][0] if most else None)
    return {result.spec.key: result for result in same if result.data == data}


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
