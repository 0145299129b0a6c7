"""What results say: paired differences by Student's t and Holm, profiles, areas over rates."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.arms import NESTEROV, PLAIN, PREDICTION, read_arm
from experiments.statistics import (
    CONFIDENCE,
    Interval,
    holm,
    paired_difference,
    paired_p_value,
)
from experiments.studies.evidence.summaries import ArmSummary, RowSummary, of_study

PROFILED = (PLAIN, NESTEROV, "s=1", "s=2", "s=3")
"""The arms of performance profiles, which take the rows that have all of them."""

FACTORS = np.linspace(1, 4, 301)
"""The costs up to which profiles go, as multiples of the best arm's."""


class Effect(NamedTuple):
    """How much better an arm is than a reference, seed by seed, in percent of the reference.

    Attributes:
        row: name of the row.
        arm: the arm.
        reference: what it is compared with.
        improvement: mean and 95 % interval by Student's t; positive is better, whichever way the
            metric goes.
        p_value: of no difference, by Student's t; of a table of effects adjusted by Holm.
    """

    row: str
    arm: str
    reference: str
    improvement: Interval
    p_value: float

    @property
    def decided(self) -> bool:
        """Whether there is a difference, at 5 % over the whole table."""
        return self.p_value < 1 - CONFIDENCE

    @property
    def verdict(self) -> str:
        """``"better"``, ``"worse"`` or ``"undecided"``."""
        if not self.decided:
            return "undecided"
        return "better" if self.improvement.mean > 0 else "worse"


def effect(summary: RowSummary, arm: ArmSummary, reference: ArmSummary) -> Effect | None:
    """Compares two arms of a row over the seeds that both have; None for fewer than two."""
    return _effect(summary, (arm.arm, arm.values), (reference.arm, reference.values))


_Named = tuple[str, Mapping[int, float]]


def _effect(summary: RowSummary, arm: _Named, reference: _Named) -> Effect | None:
    (name, ours), (against, theirs) = arm, reference
    seeds = sorted(set(ours) & set(theirs))
    if len(seeds) < 2:
        return None
    sign = 1 if summary.higher_is_better else -1
    scale = 100 * sign / abs(statistics.fmean(theirs[seed] for seed in seeds))
    a = scale * np.array([ours[seed] for seed in seeds])
    b = scale * np.array([theirs[seed] for seed in seeds])
    return Effect(summary.row.name, name, against, paired_difference(a, b), paired_p_value(a, b))


def table_of(effects: Sequence[Effect | None]) -> list[Effect]:
    """Returns the effects that there are, their p-values adjusted for all of them by Holm."""
    found = [one for one in effects if one is not None]
    adjusted = holm([one.p_value for one in found])
    return [one._replace(p_value=p) for one, p in zip(found, adjusted, strict=True)]


def effects_in(summary: RowSummary) -> list[Effect]:
    """Returns the effects of all arms of a row against the plain one: a table of its own."""
    plain = summary.arm(PLAIN)
    others = [arm for arm in summary.arms if plain and arm is not plain]
    return table_of([effect(summary, arm, plain) for arm in others if plain])


def area_effects(summary: RowSummary) -> list[Effect]:
    """Returns the same of the areas over the rates of a row that reports them all."""
    areas = {
        name: area_over_rates([arm for arm in summary.arms if arm.arm == name])
        for name in dict.fromkeys(arm.arm for arm in summary.arms)
    }
    plain = (PLAIN, areas.pop(PLAIN, {}))
    return table_of([_effect(summary, other, plain) for other in areas.items()])


def is_prediction(arm: str, optimizer: str) -> bool:
    """Whether an arm predicts weights."""
    read = read_arm(arm, optimizer)
    return read.form == PREDICTION and read.horizon > 0


def _is_nesterov(arm: str, optimizer: str) -> bool:
    del optimizer
    return arm == NESTEROV


class Question(NamedTuple):
    """What a table of effects asks of all rows of a study.

    Attributes:
        of: whether an arm of an optimizer is asked about.
        what: how the arms are called.
        reference: what they are held against.
        against: how that is called.
    """

    of: Callable[[str, str], bool]
    what: str
    reference: str
    against: str


_PLAIN, _NESTEROV = "the plain optimizer", "Nesterov/NAdam"
QUESTIONS = (
    Question(is_prediction, "Prediction", PLAIN, _PLAIN),
    Question(is_prediction, "Prediction", NESTEROV, _NESTEROV),
    Question(_is_nesterov, _NESTEROV, PLAIN, _PLAIN),
)
"""Each is answered by a table of its own, which its p-values are adjusted for."""


def answers(summaries: Sequence[RowSummary], question: Question) -> list[Effect]:
    """Returns the table of effects in these rows that a question asks for."""
    return table_of(
        [
            effect(summary, arm, against)
            for summary in summaries
            if (against := summary.arm(question.reference))
            for arm in summary.arms
            if question.of(arm.arm, summary.row.optimizer)
        ]
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """A study in which arms are held against each other over many rows.

    Attributes:
        study: its name.
        rows: those that have results.
        effects: in these rows, by question; only questions with an answer.
        profiles: of ``PROFILED`` by ``FACTORS``; empty if no row has all of them.
    """

    study: str
    rows: Sequence[RowSummary]
    effects: Mapping[Question, Sequence[Effect]]
    profiles: Mapping[str, np.ndarray]


def compare(study: str, summaries: Sequence[RowSummary]) -> Comparison:
    """Returns the comparison of a study, out of all rows."""
    rows = of_study(study, summaries)
    found = {question: answers(rows, question) for question in QUESTIONS}
    return Comparison(
        study=study,
        rows=rows,
        effects={question: some for question, some in found.items() if some},
        profiles=performance_profile(rows, PROFILED, FACTORS),
    )


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

    By the trapezoidal rule in log γ, divided by the grid's length; one rate has no area.

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
