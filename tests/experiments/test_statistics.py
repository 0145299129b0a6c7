import math

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import Interval, mean_interval, paired_difference

VALUES = [1.0, 2.5, 3.0, 4.5, 2.0]
REFERENCE = [1.5, 3.0, 3.25, 5.5, 2.25]


def test_interval_is_students():
    interval = mean_interval(VALUES)
    low, high = stats.t.interval(0.95, 4, np.mean(VALUES), stats.sem(VALUES))
    np.testing.assert_allclose(
        (interval.mean - interval.half_width, interval.mean + interval.half_width), (low, high)
    )


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
