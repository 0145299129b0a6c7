"""Rates on a grid of factor 2 that grows until the best of them lies strictly inside.

A rate is the exponent of 2 that multiplies a usual rate, so that a grid is a range of whole
numbers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

TUNING, REPORTED = "tuning", "reported"
"""What runs are for: to choose a rate, or to be judged by."""

Record = TypeVar("Record")

Scores = Mapping[int, float]
"""By rate, the mean loss of the tuning seeds; one entry for each rate of a grid."""

TIE = 0.005
"""Scores within this part of the best are ties: less is chance."""

_STEP = 2  # rates by which a grid is extended


def best_rate(scores: Scores) -> int:
    """Returns the rate with the lowest score; among ties the one whose neighbours do best.

    A rate at the end of the grid has one neighbour, and what is beyond is taken to be as that one;
    what still is equal goes to the lower rate.
    """

    def neighbourhood(rate: int) -> float:
        beside = [scores[near] for near in (rate - 1, rate + 1) if near in scores]
        return sum(beside) / len(beside) if beside else scores[rate]

    bound = min(scores.values()) * (1 + TIE)
    ties = [rate for rate, score in scores.items() if score <= bound]
    return min(ties, key=lambda rate: (neighbourhood(rate), rate))


def is_inside(rate: int, scores: Scores) -> bool:
    """Whether a grid goes on at both sides of a rate."""
    return min(scores) < rate < max(scores)


def best_is_inside(scores: Scores) -> bool:
    """Whether a grid goes on at both sides of its best rate; not where nothing was tried."""
    return bool(scores) and is_inside(best_rate(scores), scores)


def by_place(tried: Iterable[tuple[float, float]]) -> Scores:
    """Returns scores by the place of their rate in a grid, given learning rates and scores."""
    return dict(enumerate(score for _, score in sorted(tried)))


def extension(scores: Scores, most: int) -> Sequence[int]:
    """Returns the rates that a grid is extended by; none if its best rate lies strictly inside.

    Args:
        scores: of the grid so far.
        most: the number of rates from which on it is not extended.
    """
    if best_is_inside(scores) or len(scores) >= most:
        return ()
    low, high = min(scores), max(scores)
    return (
        range(low - _STEP, low) if best_rate(scores) == low else range(high + 1, high + 1 + _STEP)
    )


def tuned(score: Callable[[Sequence[int]], Scores], first: Sequence[int], most: int) -> Scores:
    """Returns the scores of a grid with the best rate inside, or of ``most`` rates or a few more.

    Args:
        score: scores rates.
        first: the grid to begin with.
        most: the number of rates from which on the grid is not extended.
    """
    scores = dict(score(first))
    while more := extension(scores, most):
        scores |= score(more)
    return scores


def around(usual: int, number: int) -> range:
    """Returns a grid of so many rates around one."""
    first = usual - number // 2
    return range(first, first + number)


def tuned_and_reported(
    trained: Callable[[int, str], Record],
    score_of: Callable[[Record], float],
    first: Sequence[int],
    most: int,
    within: Callable[[float, str], None],
) -> list[Record]:
    """Returns a record of each rate that was tried, in order, and that of the best.

    Args:
        trained: trains at a rate for a purpose.
        score_of: what rates are chosen by, the less the better.
        first: the grid to begin with.
        most: the number of rates from which on the grid is not extended.
        within: is told how much is done, from 0 to 1, and what comes next.
    """
    tried: dict[int, Record] = {}

    def score(rates: Sequence[int]) -> Scores:
        planned = len(tried) + len(rates) + 1
        for rate in rates:
            within(len(tried) / planned, f"tuning, {2.0**rate:g} x the usual rate")
            tried[rate] = trained(rate, TUNING)
        return {rate: score_of(tried[rate]) for rate in rates}

    best = best_rate(tuned(score, first, most))
    within(len(tried) / (len(tried) + 1), "reported seeds")
    return [*(tried[rate] for rate in sorted(tried)), trained(best, REPORTED)]
