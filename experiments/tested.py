"""Pairs of arms that are tested, paired by seed and corrected together, and their table."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from experiments.formats import format_interval
from experiments.page import Column
from experiments.statistics import Interval, holm, outcome, paired_difference, paired_p_value


class Pair(NamedTuple):
    """Two arms that are to be compared.

    Attributes:
        arm: the first.
        reference: the other.
        values: of the first, by seed.
        reference_values: of the other, by seed.
        measure: what the values are, where a study has several.
    """

    arm: str
    reference: str
    values: Sequence[float]
    reference_values: Sequence[float]
    measure: str = ""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One comparison of two arms, paired by seed.

    Attributes:
        arm: the first.
        reference: the other.
        measure: what was compared, where a study has several.
        difference: the first less the other.
        p_value: of no difference, by Student's t, adjusted for all comparisons.
        higher_is_better: which way the measure improves.
    """

    arm: str
    reference: str
    measure: str
    difference: Interval
    p_value: float
    higher_is_better: bool

    @property
    def text(self) -> str:
        """What is found at 5 %."""
        return outcome(self.difference.mean, self.p_value, higher_is_better=self.higher_is_better)


def tested(pairs: Iterable[Pair], *, higher_is_better: bool) -> list[Verdict]:
    """Returns what is found of each pair, all of them corrected together by Holm's method.

    Nothing is found of pairs of a single seed: there is no test.
    """
    pairs = [pair for pair in pairs if len(pair.values) > 1]
    adjusted = holm([paired_p_value(pair.values, pair.reference_values) for pair in pairs])
    return [
        Verdict(
            pair.arm,
            pair.reference,
            pair.measure,
            paired_difference(pair.values, pair.reference_values),
            p_value,
            higher_is_better,
        )
        for pair, p_value in zip(pairs, adjusted, strict=True)
    ]


def verdict_columns(difference: str = "difference") -> list[Column]:
    """Returns the columns of a table of verdicts.

    Args:
        difference: what heads that of the difference.
    """
    return [
        Column("arm", lambda verdict: verdict.arm, left=True, no_wrap=True),
        Column("against", lambda verdict: verdict.reference, left=True, no_wrap=True),
        Column(difference, lambda verdict: format_interval(verdict.difference, signed=True)),
        Column("p, by Holm", lambda verdict: f"{verdict.p_value:.2g}"),
        Column("it is", lambda verdict: verdict.text, left=True),
    ]
