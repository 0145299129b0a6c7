"""How the benchmark's reports write numbers."""

import math

from experiments.bench.summary import Extra
from experiments.statistics import Bounds

_BYTES = ("B", "kB", "MB", "GB", "TB")
_COUNTS = ("", "k", "M", "G", "T")


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


def format_extra(extra: Extra, *, is_plain: bool, bytes_: bool = True) -> str:
    """Formats the plain step's own figure, or what a variant adds to it."""
    write = format_bytes if bytes_ else format_count
    if is_plain:
        return write(extra.value)
    text = write(extra.difference, signed=True)
    share = format_share(extra.difference, extra.plain)
    return f"{text} ({share})" if share and extra.difference else text


def format_share(part: float, whole: float) -> str:
    """Formats ``part / whole`` in per cent, such as ``"+4.8 %"``; nothing if there is no whole."""
    if not whole:
        return ""
    return f"{100 * part / whole:+.1f} %" if part else "0"


def format_ratio(ratio: Bounds) -> str:
    """Formats a ratio with its interval, such as ``"1.04 [1.02, 1.07]"``."""
    if math.isnan(ratio.low):
        return f"{ratio.median:.3f}"
    return f"{ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
