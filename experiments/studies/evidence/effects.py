"""What results say: paired differences by bootstrap, performance profiles, areas over rates."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.arms import NESTEROV, PLAIN, PREDICTION, SAM_EQUAL, SCHEDULE_FREE, read_arm
from experiments.statistics import Interval, paired_difference
from experiments.studies.evidence.summaries import ArmSummary, RowSummary, of_study

REFERENCES = (PLAIN, NESTEROV)
"""The arms that prediction is held against."""

PROFILED = (PLAIN, NESTEROV, "s=1", "s=2", "s=3", SCHEDULE_FREE, SAM_EQUAL)
"""The arms of performance profiles, which take the rows that have all of them."""

FACTORS = np.linspace(1, 4, 301)
"""The costs up to which profiles go, as multiples of the best arm's."""

_RESAMPLES = 9_999
_RESAMPLING_SEED = 0


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
        effects: of prediction in these rows, by reference; only references that there are
            effects against.
        profiles: of ``PROFILED`` by ``FACTORS``; empty if no row has all of them.
    """

    study: str
    rows: Sequence[RowSummary]
    effects: Mapping[str, Sequence[Effect]]
    profiles: Mapping[str, np.ndarray]


def compare(study: str, summaries: Sequence[RowSummary]) -> Comparison:
    """Returns the comparison of a study, out of all rows."""
    rows = of_study(study, summaries)
    found = {reference: effects(rows, reference) for reference in REFERENCES}
    return Comparison(
        study=study,
        rows=rows,
        effects={reference: some for reference, some in found.items() if some},
        profiles=performance_profile(rows, PROFILED, FACTORS),
    )


def is_prediction(arm: str, optimizer: str) -> bool:
    """Whether an arm predicts weights."""
    read = read_arm(arm, optimizer)
    return read.form == PREDICTION and read.horizon > 0


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
