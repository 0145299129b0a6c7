"""How reports write numbers."""

import math

from experiments.statistics import Interval

_BYTES = ("B", "kB", "MB", "GB", "TB")
_LARGEST_LOGARITHM = 709.0  # above it lies no float64
_COUNTS = ("", "k", "M", "G", "T")


def format_interval(interval: Interval, signed: bool = False) -> str:
    """Formats ``mean ± half_width`` to the precision that the half width leaves.

    Args:
        interval: what to format; without an interval only the mean is shown.
        signed: whether a positive mean gets its sign.

    Returns:
        The text, such as ``"0.0213 ± 0.0012"`` or ``"(2.4 ± 0.3)e-5"``.
    """
    mean, half_width = interval
    sign = "+" if signed else ""
    if not interval.is_defined:
        return f"{mean:{sign}.4g}"
    size = max(abs(mean), half_width)
    exponent = math.floor(math.log10(size)) if size > 0 else 0
    digits = _decimals(half_width) if half_width > 0 else 2 - exponent
    if -4 <= exponent < 6:
        places = max(digits, 0)
        return f"{mean:{sign}.{places}f} ± {half_width:.{places}f}"
    scale, places = 10.0**exponent, max(digits + exponent, 0)
    return f"({mean / scale:{sign}.{places}f} ± {half_width / scale:.{places}f})e{exponent}"


def _decimals(half_width: float) -> int:
    """Returns how many decimals are worth showing: one digit of the half width, two below 3.5."""
    exponent = math.floor(math.log10(half_width))
    return (1 if half_width < 3.5 * 10.0**exponent else 0) - exponent


def format_difference(difference: Interval) -> str:
    """Formats a paired difference, with a star where its interval excludes zero."""
    return format_interval(difference, signed=True) + ("*" if difference.excludes_zero else "")


def format_paired_ratio(logarithm: Interval) -> str:
    """Formats a ratio whose logarithm is given, with a star where its interval excludes 1.

    Returns:
        The text, such as ``"0.82 [0.71, 0.94]*"``.
    """
    middle, half_width = logarithm
    if not logarithm.is_defined:
        return f"{_exp(middle):.2f}"
    star = "*" if logarithm.excludes_zero else ""
    digits = 2 if half_width >= 0.01 else 3
    ratio, low, high = (
        f"{_exp(log):.{digits}f}" for log in (middle, middle - half_width, middle + half_width)
    )
    return f"{ratio} [{low}, {high}]{star}"


def _exp(logarithm: float) -> float:
    return math.exp(logarithm) if logarithm < _LARGEST_LOGARITHM else math.inf


def format_bytes(number: float, *, signed: bool = False) -> str:
    """Formats bytes, such as ``"508.8 MB"``."""
    return _scaled(number, _BYTES, signed)


def format_count(number: float, *, signed: bool = False) -> str:
    """Formats a count, such as ``"1.1 G"``."""
    return _scaled(number, _COUNTS, signed).rstrip()


def _scaled(number: float, units: tuple[str, ...], signed: bool) -> str:
    unit = 0
    while abs(number) >= 999.95 and unit < len(units) - 1:
        number, unit = number / 1000, unit + 1
    sign = "+" if signed and number else ""
    return f"{number:{sign}.{1 if unit else 0}f} {units[unit]}"


def format_optional(value: float | None, spec: str) -> str:
    """Formats a number, and what is not known as nothing."""
    return "" if value is None else format(value, spec)
