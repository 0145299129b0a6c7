import math

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import (
    Interval,
    holm,
    mean_interval,
    paired_difference,
    paired_p_value,
    ratio_interval,
)

VALUES = [1.0, 2.5, 3.0, 4.5, 2.0]
REFERENCE = [1.5, 3.0, 3.25, 5.5, 2.25]


def test_interval_is_students():
    interval = mean_interval(VALUES)
    low, high = stats.t.interval(0.95, 4, np.mean(VALUES), stats.sem(VALUES))
    np.testing.assert_allclose(
        (interval.mean - interval.half_width, interval.mean + interval.half_width), (low, high)
    )


def normal(generator, shape):
    return generator.normal(0.3, 1.0, shape)


def heavy_tailed(generator, shape):
    return 0.3 + generator.standard_t(4, shape)


def accuracies(generator, shape):
    """Differences of two arms' accuracies on 360 examples, on which seeds differ as well."""
    ability = generator.normal(0.96, 0.005, shape)
    return 100 * (generator.binomial(360, ability - 0.003) - generator.binomial(360, ability)) / 360


@pytest.mark.parametrize("count", [5, 10, 20])
@pytest.mark.parametrize(
    ("draw", "mean", "error"),
    [(normal, 0.3, 0.01), (heavy_tailed, 0.3, 0.02), (accuracies, -0.3, 0.02)],
)
def test_intervals_cover_as_often_as_they_say(draw, mean, error, count):
    trials = draw(np.random.default_rng(count), (4000, count))
    found = np.array([mean_interval(trial) for trial in trials])
    covered = np.mean(abs(found[:, 0] - mean) <= found[:, 1])
    assert abs(covered - 0.95) < error


@pytest.mark.parametrize("count", [5, 10])
def test_a_table_without_differences_says_one_in_twenty_times_that_there_is_one(count):
    trials = np.random.default_rng(0).normal(size=(1500, 30, count))
    nothing = np.zeros(count)
    least = [min(holm([paired_p_value(one, nothing) for one in table])) for table in trials]
    assert 0.035 < np.mean(np.array(least) < 0.05) < 0.065


def test_paired_difference_is_the_paired_t_test():
    interval = paired_difference(VALUES, REFERENCE)
    expected = stats.ttest_rel(VALUES, REFERENCE).confidence_interval()
    np.testing.assert_allclose(interval.mean - interval.half_width, expected.low)
    np.testing.assert_allclose(interval.mean + interval.half_width, expected.high)
    # The spread within each group is far larger: unpaired, nothing would be seen.
    assert interval.excludes_zero
    assert stats.ttest_ind(VALUES, REFERENCE).pvalue > 0.5


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(1.0, 0.9), True),
        (Interval(-1.0, 0.9), True),
        (Interval(1.0, 1.1), False),
        (Interval(-1.0, 0.0), True),
        (Interval(0.0, 0.0), False),
        (Interval(1.0, math.nan), False),
    ],
)
def test_excludes_zero(interval, expected):
    assert interval.excludes_zero is expected


def test_one_value_has_no_interval():
    interval = mean_interval([3.0])
    assert interval.mean == 3.0
    assert not interval.is_defined


def test_p_value_is_that_of_the_paired_t_test():
    expected = stats.ttest_rel(VALUES, REFERENCE).pvalue
    np.testing.assert_allclose(paired_p_value(VALUES, REFERENCE), expected)
    assert paired_p_value(VALUES, VALUES) == 1
    assert math.isnan(paired_p_value([1.0], [2.0]))


def test_holm_on_an_example_by_hand():
    # In order 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, and never falling.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_ratio_of_values_that_are_proportional_is_exact():
    interval = ratio_interval([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    np.testing.assert_allclose(interval, (0.5, 0.0), atol=1e-12)


@pytest.mark.parametrize("count", [5, 10, 20])
def test_ratio_interval_covers_the_ratio_of_means(count):
    generator = np.random.default_rng(count)
    shared = generator.normal(0, 0.2, (4_000, count))
    denominators = 1 + shared + generator.normal(0, 0.1, shared.shape)
    numerators = 0.7 + shared + generator.normal(0, 0.1, shared.shape)
    intervals = map(ratio_interval, numerators, denominators)
    covered = [abs(interval.mean - 0.7) <= interval.half_width for interval in intervals]
    assert 0.93 < np.mean(covered) < 0.97
