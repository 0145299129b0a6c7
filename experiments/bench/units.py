"""How the benchmark's reports write numbers."""

import math

from experiments.bench.summary import Extra
from experiments.formats import format_bytes, format_count
from experiments.statistics import Bounds


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
