"""Means and medians, paired differences and their 95 % intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean with its interval ``mean ± half_width``.

    Attributes:
        mean: the mean.
        half_width: half the width of the 95 % interval, NaN for fewer than two values.
    """

    mean: float
    half_width: float

    @property
    def is_defined(self) -> bool:
        """Whether there were enough values for an interval."""
        return math.isfinite(self.half_width)

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval; never for an undefined one."""
        return abs(self.mean) > self.half_width


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Returns the mean of independent values and its interval by Student's t."""
    from scipy.special import stdtrit

    values = np.asarray(values, float)
    count = len(values)
    if count < 2:
        return Interval(float(values.mean()), math.nan)
    quantile = stdtrit(count - 1, (1 + CONFIDENCE) / 2)
    return Interval(float(values.mean()), float(quantile * values.std(ddof=1) / math.sqrt(count)))


def paired_difference(
    values: Sequence[float] | np.ndarray, reference: Sequence[float] | np.ndarray
) -> Interval:
    """Returns the mean of ``values - reference``, seed by seed, and its interval."""
    return mean_interval(np.asarray(values, float) - np.asarray(reference, float))


class Bounds(NamedTuple):
    """A median with its interval.

    Attributes:
        median: the median.
        low: lower end of the 95 % interval, NaN for too few values.
        high: upper end, likewise.
    """

    median: float
    low: float
    high: float


def median_interval(values: Sequence[float] | np.ndarray) -> Bounds:
    """Returns the median of independent values and its interval by order statistics.

    The interval assumes nothing about the distribution; it needs six values.
    """
    from scipy.stats import quantile_test

    interval = quantile_test(values, p=0.5).confidence_interval(CONFIDENCE)
    return Bounds(float(np.median(values)), float(interval.low), float(interval.high))


def paired_p_value(
    values: Sequence[float] | np.ndarray, reference: Sequence[float] | np.ndarray
) -> float:
    """Returns the two-sided p of no mean difference, seed by seed, by Student's t.

    NaN for fewer than two values; 1 where there is no difference at all.
    """
    from scipy.special import stdtr

    difference = np.asarray(values, float) - np.asarray(reference, float)
    count = len(difference)
    if count < 2:
        return math.nan
    if not difference.any():
        return 1.0
    error = difference.std(ddof=1) / math.sqrt(count)
    return float(2 * stdtr(count - 1, -abs(difference.mean()) / error)) if error else 0.0


def ratio_interval(
    numerator: Sequence[float] | np.ndarray, denominator: Sequence[float] | np.ndarray
) -> Interval:
    """Returns the ratio of two paired means and its interval by Student's t.

    The interval is that of the mean of ``(numerator - ratio * denominator) / mean(denominator)``:
    the ratio of means to first order. It is to be trusted where the denominator's own interval is
    far from zero.
    """
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    ratio = float(numerator.mean() / denominator.mean())
    residuals = (numerator - ratio * denominator) / denominator.mean()
    return Interval(ratio, mean_interval(residuals).half_width)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for their number by Holm's step-down method, in the same order.

    References:
        Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for done, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def outcome(difference: float, p_value: float, *, higher_is_better: bool) -> str:
    """Returns what a test of the first of two against the second says at 5 %, in words."""
    if not p_value < 1 - CONFIDENCE:
        return "no difference shown"
    return "better" if (difference > 0) == higher_is_better else "worse"
