"""How reports write numbers."""

import math

import pytest

from experiments.formats import (
    format_bytes,
    format_count,
    format_difference,
    format_interval,
    format_paired_ratio,
)
from experiments.statistics import Interval


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.02134, 0.00123), "0.0213 ± 0.0012"),
        (Interval(0.02134, 0.0057), "0.021 ± 0.006"),
        (Interval(97.4444, 0.31), "97.44 ± 0.31"),
        (Interval(1234.5, 250.0), "1234 ± 250"),
        (Interval(2.413e-5, 3.1e-6), "(2.41 ± 0.31)e-5"),
        (Interval(3.2e30, 1e29), "(3.20 ± 0.10)e30"),
        (Interval(3.0, 0.0), "3.00 ± 0.00"),
        (Interval(0.0, 0.0), "0.00 ± 0.00"),
        (Interval(0.123456, math.nan), "0.1235"),
    ],
)
def test_intervals_show_the_digits_that_mean_something(interval, text):
    assert format_interval(interval) == text


def test_differences_are_signed_and_starred():
    assert format_difference(Interval(0.5, 0.11)) == "+0.50 ± 0.11*"
    assert format_difference(Interval(-0.5, 0.6)) == "-0.5 ± 0.6"


@pytest.mark.parametrize(
    ("ratio", "half_width", "text"),
    [
        (0.8, 0.1, "0.80 [0.72, 0.88]*"),
        (1.1, 0.2, "1.10 [0.90, 1.34]"),
        (0.997, 0.002, "0.997 [0.995, 0.999]*"),
        (0.5, math.nan, "0.50"),
        (1.0, 800.0, "1.00 [0.00, inf]"),
    ],
)
def test_ratios_come_from_logarithms_and_are_starred_where_they_exclude_1(ratio, half_width, text):
    assert format_paired_ratio(Interval(math.log(ratio), half_width)) == text


@pytest.mark.parametrize(
    ("write", "number", "text"),
    [
        (format_bytes, 0, "0 B"),
        (format_bytes, 999, "999 B"),
        (format_bytes, 1000, "1.0 kB"),
        (format_bytes, 999_960, "1.0 MB"),
        (format_bytes, -50_356_224, "-50.4 MB"),
        (format_bytes, 9.8e15, "9800.0 TB"),
        (format_count, 12_589_056, "12.6 M"),
        (format_count, 7, "7"),
    ],
)
def test_numbers_are_readable(write, number, text):
    assert write(number) == text
