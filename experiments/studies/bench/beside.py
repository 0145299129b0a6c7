"""Every variant beside the plain step that was measured with it, and how pages write that."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from experiments.compared import grouped
from experiments.formats import format_bytes
from experiments.page import Column, Table
from experiments.statistics import Bounds, median_interval
from experiments.studies.bench.variants import PLAIN

Figure = Callable[[Any], Any]
"""Reads a number off a record."""

arguments: Figure = attrgetter("exact.arguments")
bytes_accessed: Figure = attrgetter("exact.bytes_accessed")
moved: Figure = attrgetter("exact.moved")
temporary: Figure = attrgetter("exact.temporary")


class Beside(NamedTuple):
    """A variant beside the plain step.

    Attributes:
        record: the variant.
        plain: the plain step: the same in all but the variant.
    """

    record: Any
    plain: Any

    @property
    def is_plain(self) -> bool:
        """Whether the variant is the plain step itself."""
        return self.record.variant == PLAIN

    @property
    def same_collectives(self) -> bool:
        """Whether the collective operations are the plain step's."""
        return self.record.exact.collectives == self.plain.exact.collectives

    def extra(self, figure: Figure) -> int:
        """Returns what the variant adds to a figure."""
        return figure(self.record) - figure(self.plain)

    def ratio(self, figure: Figure) -> float:
        """Returns the variant's figure over the plain step's; 1 if both are nothing."""
        own, plain = figure(self.record), figure(self.plain)
        return own / plain if plain else 1.0 if not own else math.inf


def beside_plain(records: Iterable[Any]) -> dict[Any, list[Beside]]:
    """Returns what was measured at each place, in the order of records."""
    return {
        where: [Beside(record, _plain(members)) for record in members]
        for where, members in grouped(records, attrgetter("place")).items()
    }


def _plain(members: Iterable[Any]) -> Any:
    return next(record for record in members if record.variant == PLAIN)


def by_variant(groups: Mapping[Any, Sequence[Beside]]) -> dict[str, list[Beside]]:
    """Returns each variant at all places, without the plain step."""
    members = (beside for group in groups.values() for beside in group if not beside.is_plain)
    return grouped(members, lambda beside: beside.record.variant)


def step_ratio(beside: Beside) -> Bounds:
    """Returns the step time over the plain step's of the same round: median, 95 % interval."""
    own, plain = (np.array(record.timed.step_seconds) for record in beside)
    return median_interval(own / plain)


def compile_ratio(beside: Beside) -> float:
    """Returns the median compile time over the plain step's."""
    own, plain = (np.median(record.timed.compile_seconds) for record in beside)
    return float(own / plain)


# --------------------------------------------------------------------------------------------------
# How pages write it
# --------------------------------------------------------------------------------------------------

VARIANT = Column("variant", lambda beside: beside.record.variant, left=True)


def format_extra(beside: Beside, figure: Figure, write: Callable[..., str] = format_bytes) -> str:
    """Formats the plain step's own figure, or what a variant adds to it."""
    if beside.is_plain:
        return write(figure(beside.plain))
    difference = beside.extra(figure)
    share = format_share(difference, figure(beside.plain))
    text = write(difference, signed=True)
    return f"{text} ({share})" if share and difference else text


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


def format_range(values: Sequence[float], digits: int) -> str:
    """Formats the least and the most, or the one number that they are."""
    least, most = (f"{end(values):.{digits}f}" for end in (min, max))
    return least if least == most else f"{least} to {most}"


def format_collectives(record: Any) -> str:
    """Formats the number of collective operations by kind."""
    counts = record.exact.collectives.items()
    return ", ".join(f"{count} {kind}" for kind, count in counts) or "none"


def paragraphs(notes: Iterable[str]) -> str | None:
    """Returns the notes as a page shows them; None if there are none."""
    return "\n\n".join(f"**Note:** {note}" for note in notes) or None


def explained(title: str, rows: Mapping[str, Any], names: Iterable[str], *more: Column) -> str:
    """Returns a table of what some names stand for.

    Args:
        title: what the names are.
        rows: have a summary each, by name.
        names: those in the table.
        *more: further columns, about a name.
    """
    what = Column("what it is", lambda name: rows[name].summary)
    return Table([Column(title, str), what, *more], list(names)).markdown()
