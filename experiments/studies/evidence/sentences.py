"""What the report says in short."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean

from experiments.arms import PLAIN
from experiments.formats import format_interval
from experiments.studies.evidence.effects import (
    Comparison,
    Effect,
    area_effects,
    area_over_rates,
    effects_in,
)
from experiments.studies.evidence.summaries import RowSummary, mean_of
from experiments.studies.evidence.tables import Repeated, percent


def verdicts(compared: Sequence[Comparison]) -> Iterator[str]:
    """Yields how many rows are better, worse and undecided, by study, question and arm."""
    for comparison in compared:
        for question, found in comparison.effects.items():
            for arm in dict.fromkeys(one.arm for one in found):
                of_arm = [one for one in found if one.arm == arm]
                average = fmean(one.improvement.mean for one in of_arm)
                rows = _counted(len(of_arm), f"{comparison.study} row")
                yield (
                    f"{arm} against {question.against}, {rows}: "
                    f"{_counts(one.verdict for one in of_arm)}, by Holm over "
                    f"{_counted(len(found), 'comparison')}; {average:+.1f} % on average."
                )


def areas(summaries: Iterable[RowSummary]) -> Iterator[str]:
    """Yields what is left of the metric where the learning rate is anywhere on a grid."""
    for summary in summaries:
        plain = [arm for arm in summary.arms if arm.arm == PLAIN]
        area, rates = mean_of(area_over_rates(plain)), len(plain)
        if area and (found := area_effects(summary)):
            yield (
                f"Mean test {summary.metric} over {rates} rates, {summary.row.name}: plain "
                f"{format_interval(area)}; against it {_listed(found)}."
            )


def repetitions(rows: Iterable[Repeated]) -> Iterator[str]:
    """Yields how far the effects of a row move with other seeds."""
    for first, again in rows:
        before = {one.arm: one.improvement for one in effects_in(first)}
        after = {one.arm: one.improvement for one in effects_in(again)}
        moved = [
            f"{arm} {percent(before[arm])} and {percent(after[arm])}"
            for arm in before
            if arm in after
        ]
        if moved:
            yield (
                f"{first.row.name} and the same with other seeds, against the plain optimizer in "
                f"percent: {'; '.join(moved)}."
            )


def outside(summaries: Iterable[RowSummary]) -> str | None:
    """Returns which arms may have a better rate beyond those that were tried; None for none."""
    found = [
        f"{summary.row.name} {arm.arm}"
        for summary in summaries
        for arm in summary.arms
        if not arm.inside
    ]
    if not found:
        return None
    return f"The best rate is at an end of those that were tried for {', '.join(found)}."


def _listed(effects: Sequence[Effect]) -> str:
    return ", ".join(f"{one.arm} {percent(one.improvement)} % ({one.verdict})" for one in effects)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _counts(verdicts: Iterable[str]) -> str:
    listed = list(verdicts)
    return ", ".join(f"{listed.count(name)} {name}" for name in ("better", "worse", "undecided"))
