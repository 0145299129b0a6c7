"""The page of timed steps: what every variant adds to the plain one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from rich.console import RenderableType

from experiments.formats import format_bytes, format_count
from experiments.page import Column, Table, shortfall
from experiments.provenance import cautions
from experiments.studies.bench.ask import Config, Group, Record
from experiments.studies.bench.beside import (
    VARIANT,
    Beside,
    Figure,
    beside_plain,
    bytes_accessed,
    compile_ratio,
    explained,
    format_collectives,
    format_extra,
    format_ratio,
    format_share,
    paragraphs,
    step_ratio,
    temporary,
)
from experiments.studies.bench.figure import draw_bars
from experiments.studies.bench.variants import CONTROL, HORIZON, LEARNING_RATE, VARIANTS
from experiments.studies.bench.workloads import WORKLOADS

FIGURES = {"bars.png": draw_bars}

_LEGEND = (
    "step: time over the plain step's of the same round, median [95 % interval]; compile: likewise;"
    "\nthe rest, exact: what the variant adds to the plain step, in % of it"
)

_carried: Figure = attrgetter("carried")


def _plain_step(record: Record) -> str:
    return f"{1e3 * np.median(record.timed.step_seconds):.3g} ms"


def _plain_compilation(record: Record) -> str:
    return f"{np.median(record.timed.compile_seconds):.2f} s"


# --------------------------------------------------------------------------------------------------
# The terminal
# --------------------------------------------------------------------------------------------------


def _beside(title: str, plain: Callable[[Any], str], other: Callable[[Beside], str]) -> Column:
    """A column of the plain step's own figures and what the variants add to them."""
    return Column(
        title, lambda row: plain(row.record) if row.is_plain else other(row), no_wrap=True
    )


def _share(title: str, figure: Figure) -> Column:
    return _beside(
        title,
        lambda record: format_bytes(figure(record)),
        lambda row: format_share(row.extra(figure), figure(row.plain)),
    )


def _floor_share(name: str, figure: Figure) -> Column:
    def share(row: Beside) -> str:
        floor = row.record.floor
        return format_share(getattr(floor, name), figure(row.plain)) if floor else ""

    return _beside("floor", lambda record: "", share)


_IN_SHORT = (
    Column("variant", VARIANT.cell, left=True, no_wrap=True),
    _beside("step", _plain_step, lambda row: format_ratio(step_ratio(row))),
    _beside("compile", _plain_compilation, lambda row: f"{compile_ratio(row):.2f}"),
    _share("bytes accessed", bytes_accessed),
    _floor_share("traffic", bytes_accessed),
    _share("peak temp.", temporary),
    _share("state", _carried),
    _floor_share("state", _carried),
)


def tables(records: Sequence[Record], config: Any, meta: Any) -> RenderableType:
    """Returns the table for the terminal."""
    rows = [row for members in beside_plain(records).values() for row in members]
    return Table(_IN_SHORT, rows).terminal(
        _LEGEND,
        style=lambda row: "dim" if row.record.variant == CONTROL else "",
        section=lambda row: row.record.place,
        headed=True,
    )


def notes(records: Sequence[Record], config: Any, meta: Mapping[str, Any]) -> Iterator[str]:
    """Yields what a reader must know before the figures, one sentence each."""
    if missing := shortfall(meta):
        yield missing
    yield from cautions(meta, timed=True)
    for record in records:
        name = f"{record.variant} of {record.place}"
        if record.compilations != 1:
            yield f"{name} was compiled {record.compilations} times, not once."
        if not record.timed.loss_is_finite:
            yield f"the loss of {name} is no longer finite, which may change its time."


# --------------------------------------------------------------------------------------------------
# The page
# --------------------------------------------------------------------------------------------------


def _extra(title: str, figure: Figure, write: Callable[..., str] = format_bytes) -> Column:
    return Column(title, lambda row: format_extra(row, figure, write))


def _floor(name: str) -> Column:
    def cell(row: Beside) -> str:
        floor = row.record.floor
        return "" if floor is None or row.is_plain else format_bytes(getattr(floor, name))

    return Column("floor", cell)


_EXACT = (
    VARIANT,
    _extra("bytes accessed", bytes_accessed),
    _floor("traffic"),
    _extra("peak temporary", temporary),
    _extra("state", _carried),
    _floor("state"),
    *(_extra(name, attrgetter(f"exact.{name}")) for name in ("arguments", "outputs", "aliased")),
    _extra("flops", attrgetter("exact.flops"), format_count),
    Column("instructions", lambda row: str(row.record.exact.instructions)),
    Column("collectives", lambda row: format_collectives(row.record)),
    Column("compilations", lambda row: str(row.record.compilations)),
)
_TIMED = (
    VARIANT,
    Column("step time / plain", lambda row: format_ratio(step_ratio(row))),
    Column("compile time / plain", lambda row: f"{compile_ratio(row):.2f}"),
)


def _exact_section(group: Group, rows: Sequence[Beside]) -> str:
    plain = rows[0].plain
    return (
        f"### {group}: exact\n\n{format_count(plain.parameters)} parameters in "
        f"{format_bytes(plain.params_bytes)}.\n\n{Table(_EXACT, rows).markdown()}"
    )


def _timed_section(group: Group, rows: Sequence[Beside]) -> str:
    plain = rows[0].plain
    others = [row for row in rows if not row.is_plain]
    return (
        f"### {group}: timed\n\nPlain step: {_plain_step(plain)}, "
        f"{len(plain.timed.step_seconds)} rounds; compiled in {_plain_compilation(plain)}.\n\n"
        f"{Table(_TIMED, others).markdown()}"
    )


def _formula(variant: str) -> str:
    floor = VARIANTS[variant].floor
    return floor.formula if floor else "none stated"


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    groups = beside_plain(records).items()
    on_cpu = meta["device"]["platform"] == "cpu"
    formula = Column("floor of its extra bytes accessed", _formula)
    return {
        "notes": paragraphs(notes(records, config, meta)),
        "where": " All of it was measured on a CPU; no GPU was measured." if on_cpu else "",
        "if_measured": "" if records else None,
        "exact": "\n\n".join(_exact_section(*group) for group in groups) or None,
        "timed": "\n\n".join(_timed_section(*group) for group in groups) or None,
        "control": CONTROL,
        "variants": explained("variant", VARIANTS, config.variants, formula),
        "models": explained("model", WORKLOADS, config.models),
        "horizon": HORIZON,
        "learning_rate": LEARNING_RATE,
    }
