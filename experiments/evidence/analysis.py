"""What results say: the chosen rates, paired differences by bootstrap, and costs to a target."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.arms import NESTEROV, PLAIN, read_arm
from experiments.evidence.rows import Row
from experiments.evidence.sweep import (
    chosen_rates,
    count_runs,
    rates_of,
    reported_specs,
    tuning_specs,
)
from experiments.statistics import Interval, mean_interval, paired_difference
from experiments.task import Protocol
from experiments.training.result import FAILED, FINISHED, Point, Result

REFERENCES = (PLAIN, NESTEROV)
"""The arms that prediction is held against."""

_RESAMPLES = 9_999
_RESAMPLING_SEED = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """One arm of a row at its chosen rate.

    Attributes:
        arm: its name.
        learning_rate: the chosen rate.
        results: by seed.
        reached: where the seeds that reach the row's target do so, by seed.
    """

    arm: str
    learning_rate: float
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
    def temporary_bytes(self) -> int | None:
        """What a step allocates."""
        return next(iter(self.results.values())).temporary_bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowSummary:
    """A row, as far as it was run.

    Attributes:
        row: what was registered.
        metric: the metric's name.
        higher_is_better: which way it improves.
        rates: the grid of learning rates.
        planned: number of runs.
        done: number of those there are results of.
        target: what arms ``reached``: the median over seeds of the plain arm's best
            validation metric. None without plain runs.
        arms: those of which all seeds are there.
    """

    row: Row
    metric: str
    higher_is_better: bool
    rates: Sequence[float]
    planned: int
    done: int
    target: float | None
    arms: Sequence[ArmSummary]

    def arm(self, name: str) -> ArmSummary | None:
        """Returns an arm by its name."""
        return next((arm for arm in self.arms if arm.arm == name), None)


class Effect(NamedTuple):
    """How much better an arm is than a reference, seed by seed, in percent of the reference.

    Attributes:
        row: name of the row.
        arm: the arm.
        reference: what it is compared with.
        improvement: the mean; positive is better, whichever way the metric goes.
        low: lower end of the 95 % interval by paired bootstrap.
        high: upper end.
        student: the interval by Student's t, in the same unit.
    """

    row: str
    arm: str
    reference: str
    improvement: float
    low: float
    high: float
    student: Interval

    @property
    def verdict(self) -> str:
        """``"better"``, ``"worse"`` or ``"undecided"`` by the bootstrap's interval."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "undecided"

    @property
    def student_verdict(self) -> str:
        """The same by Student's t."""
        if not self.student.excludes_zero:
            return "undecided"
        return "better" if self.student.mean > 0 else "worse"


def summarize_row(row: Row, protocol: Protocol, results: Mapping[str, Result]) -> RowSummary:
    """Collects what there is of a row.

    Args:
        row: what was registered.
        protocol: of its task.
        results: all results by key.
    """
    known = {key: result for key, result in results.items() if result.status != FAILED}
    complete: list[tuple[str, float, Mapping[int, Result]]] = []
    done = 0
    for arm in row.arms:
        rates = chosen_rates(row, protocol, arm, known)
        specs = reported_specs(row, rates, arm)
        wanted = [*tuning_specs(row, protocol, arm), *specs]
        done += sum(spec.key in known for spec in wanted)
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
        rates=rates_of(row, protocol),
        planned=count_runs(row, protocol),
        done=done,
        target=target,
        arms=[
            ArmSummary(
                arm=arm,
                learning_rate=rate,
                results=by_seed,
                reached=_first_at(by_seed, target),
            )
            for arm, rate, by_seed in complete
        ],
    )


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


def effect(summary: RowSummary, arm: ArmSummary, reference: ArmSummary) -> Effect | None:
    """Compares two arms over the seeds that both have; None for fewer than two."""
    ours, theirs = arm.values, reference.values
    seeds = sorted(set(ours) & set(theirs))
    if len(seeds) < 2:
        return None
    sign = 1 if summary.higher_is_better else -1
    scale = 100 * sign / abs(statistics.fmean(theirs[seed] for seed in seeds))
    a = scale * np.array([ours[seed] for seed in seeds])
    b = scale * np.array([theirs[seed] for seed in seeds])
    low, high = bootstrap_interval(a - b)
    return Effect(
        summary.row.name,
        arm.arm,
        reference.arm,
        float(np.mean(a - b)),
        low,
        high,
        paired_difference(a, b),
    )


def bootstrap_interval(differences: np.ndarray) -> tuple[float, float]:
    """Returns the percentile interval, 95 %, of the mean of paired differences."""
    from scipy.stats import bootstrap

    low, high = bootstrap(
        (differences,),
        np.mean,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(_RESAMPLING_SEED),
    ).confidence_interval
    return float(low), float(high)


def effects(summaries: Sequence[RowSummary], reference: str) -> list[Effect]:
    """Returns the effects of prediction in these rows against ``plain`` or ``nesterov``."""
    found = [
        effect(summary, arm, against)
        for summary in summaries
        if (against := summary.arm(reference))
        for arm in summary.arms
        if is_prediction(arm.arm, summary.row.optimizer)
    ]
    return [one for one in found if one is not None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A study in which prediction is held against each of ``REFERENCES``.

    Attributes:
        study: its name.
        rows: those that have results.
        effects: of prediction in these rows, by reference.
    """

    study: str
    rows: Sequence[RowSummary]
    effects: Mapping[str, Sequence[Effect]]


def compare(study: str, summaries: Sequence[RowSummary]) -> Comparison:
    """Returns the comparison of a study, out of all rows."""
    rows = of_study(study, summaries)
    return Comparison(
        study=study,
        rows=rows,
        effects={reference: effects(rows, reference) for reference in REFERENCES},
    )


def of_study(study: str, summaries: Sequence[RowSummary]) -> Sequence[RowSummary]:
    """Returns a study's rows, as far as there are results."""
    return [summary for summary in summaries if summary.row.study == study and summary.arms]


def is_prediction(arm: str, optimizer: str) -> bool:
    """Whether an arm predicts weights."""
    read = read_arm(arm, optimizer)
    return read.form == "prediction" and read.horizon > 0


def mean_of(values: Mapping[int, float]) -> Interval | None:
    """Returns mean and interval; None of nothing."""
    return mean_interval(list(values.values())) if values else None


def performance_profile(
    summaries: Sequence[RowSummary], arms: Sequence[str], factors: np.ndarray
) -> Mapping[str, np.ndarray]:
    """Returns the share of problems that each arm solves within a factor of the best arm.

    A problem is a row at a seed; it is solved at the gradients until the row's target.
    Dolan & Moré, 2002, as in AlgoPerf (arXiv 2306.07179).

    Args:
        summaries: the rows; those that lack one of the arms are left out.
        arms: the arms.
        factors: at least 1, ``[factors]``.

    Returns:
        Of each arm the shares, ``[factors]``.
    """
    ratios: dict[str, list[float]] = {arm: [] for arm in arms}
    for summary in summaries:
        found = {arm: summary.arm(arm) for arm in arms}
        if None in found.values():
            continue
        for seed in summary.row.seeds:
            costs = {
                name: arm.gradients_to_target.get(seed, np.inf)
                for name, arm in found.items()
                if arm
            }
            best = min(costs.values())
            for name, cost in costs.items():
                ratios[name].append(cost / best if np.isfinite(best) else np.inf)
    return {
        arm: (np.array(of_arm)[:, None] <= factors).mean(axis=0)
        for arm, of_arm in ratios.items()
        if of_arm
    }


def area_over_rates(arms: Sequence[ArmSummary]) -> Mapping[int, float]:
    """Returns by seed the mean test metric over the logarithmic grid of learning rates.

    By the trapezoidal rule in log γ, divided by the grid's length; a seed that was lost at a rate
    has no area, and one rate has none.

    Args:
        arms: one arm at each of its rates.
    """
    if len(arms) < 2:
        return {}
    ordered = sorted(arms, key=lambda arm: arm.learning_rate)
    logs = np.log([arm.learning_rate for arm in ordered])
    seeds = set.intersection(*(set(arm.values) for arm in ordered))
    return {
        seed: float(
            np.trapezoid([arm.values[seed] for arm in ordered], logs) / (logs[-1] - logs[0])
        )
        for seed in sorted(seeds)
    }
