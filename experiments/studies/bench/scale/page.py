"""The page of ``scale``: what prediction adds at every size on every mesh."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from experiments.compilers.targets import TARGETS
from experiments.formats import format_bytes, format_count
from experiments.page import Column, Table, shortfall
from experiments.provenance import cautions
from experiments.studies.bench.beside import (
    Beside,
    beside_plain,
    by_variant,
    bytes_accessed,
    format_collectives,
    format_range,
    paragraphs,
    temporary,
)
from experiments.studies.bench.choices import LAYOUTS
from experiments.studies.bench.scale.ask import Config, Record
from experiments.studies.bench.variants import HORIZON, PLAIN, VARIANTS
from experiments.studies.bench.workloads import BLOCKS

FIGURES: Mapping[str, Any] = {}


def per_parameter_byte(row: Beside) -> float:
    """Returns the extra bytes accessed per byte of parameters."""
    return row.extra(bytes_accessed) / row.plain.params_bytes


_SHOWN = 5e-5
"""The smallest share that is not printed as 0.00 %."""


def share(row: Beside) -> float:
    """Returns the extra bytes accessed as a share of all that the plain step accesses."""
    return row.extra(bytes_accessed) / row.plain.step_bytes


def temporary_share(row: Beside) -> float:
    """Returns the extra peak temporary bytes as a share of the plain step's."""
    return row.ratio(temporary) - 1


def growth(rows: Sequence[Beside], place: str) -> float:
    """Returns by what factor the share grew most from the first of those with the same ``place``.

    Args:
        rows: a variant at all sizes and meshes.
        place: what they are to have in common, ``"size"`` or ``"mesh"``.
    """
    first: dict[str, float] = {}
    for row in rows:
        first.setdefault(getattr(row.record, place), share(row))
    begun = ((row, first[getattr(row.record, place)]) for row in rows)
    # What is printed as 0.00 % is nothing but scalars, and no factor of it says anything.
    factors = (share(row) / beginning for row, beginning in begun if abs(beginning) >= _SHOWN)
    return max(factors, default=1.0)


# --------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------


def _percent(share: float) -> str:
    return f"{100 * share:+.2f} %"


def _floor(rows: Sequence[Beside]) -> str:
    record = rows[0].record
    return f"{record.floor.traffic / record.params_bytes:.2f}" if record.floor else ""


def _so_many(holds: Callable[[Beside], bool]) -> Callable[[Sequence[Beside]], str]:
    return lambda rows: f"{sum(map(holds, rows))} of {len(rows)}"


# About a variant at all sizes and on all meshes.
_GLANCE = (
    Column("variant", lambda rows: rows[0].record.variant, left=True),
    Column(
        "extra bytes per byte of parameters",
        lambda rows: format_range([*map(per_parameter_byte, rows)], 2),
    ),
    Column("floor", _floor),
    Column("largest share of the plain step's bytes", lambda rows: _percent(max(map(share, rows)))),
    Column("its largest growth with size", lambda rows: f"x {growth(rows, 'mesh'):.3f}"),
    Column("with devices", lambda rows: f"x {growth(rows, 'size'):.3f}"),
    Column("largest extra peak temporary", lambda rows: _percent(max(map(temporary_share, rows)))),
    Column("collectives as plain", _so_many(lambda row: row.same_collectives)),
    Column("shardings kept", _so_many(lambda row: row.record.shardings_kept)),
)
_PLAIN = (
    Column("size", lambda record: record.size),
    Column("mesh", lambda record: record.mesh),
    Column("parameters", lambda record: format_count(record.parameters)),
    Column("bytes of parameters", lambda record: format_bytes(record.params_bytes)),
    Column("bytes accessed", lambda record: format_bytes(record.step_bytes)),
    Column("peak temporary", lambda record: format_bytes(record.exact.temporary)),
    Column("instructions", lambda record: str(record.exact.instructions)),
    Column("collectives", format_collectives),
)


def glance(records: Sequence[Record]) -> Table:
    """Returns a line for each variant."""
    return Table(_GLANCE, list(by_variant(beside_plain(records)).values()))


def _by_mesh(records: Sequence[Record], cell: Callable[[Beside], str]) -> Table:
    """Returns a line for each size and mesh, a cell for each variant."""
    groups = beside_plain(records)
    columns = [
        Column(variant, lambda rows, at=place: cell(rows[at]))
        for place, variant in enumerate(by_variant(groups), 1)
    ]
    size = Column("size", lambda rows: rows[0].plain.size, left=True)
    return Table(
        [size, Column("mesh", lambda rows: rows[0].plain.mesh), *columns], list(groups.values())
    )


def _shares(records: Sequence[Record]) -> Table:
    return _by_mesh(records, lambda row: _percent(share(row)))


def tables(records: Sequence[Record], config: Any, meta: Any) -> RenderableType:
    """Returns the tables for the terminal."""
    return Group(
        glance(records).terminal("What prediction adds, per device"),
        _shares(records).terminal("Extra bytes accessed, share of the plain step's"),
    )


# --------------------------------------------------------------------------------------------------
# The page
# --------------------------------------------------------------------------------------------------


def notes(records: Sequence[Record], config: Any, meta: Mapping[str, Any]) -> Iterator[str]:
    """Yields what a reader must know before the figures, one sentence each."""
    if missing := shortfall(meta):
        yield missing
    yield from cautions(meta, timed=False)
    plain = [record for record in records if record.variant == PLAIN]
    if moved := [record for record in plain if not record.shardings_kept]:
        places = "; ".join(record.place for record in moved)
        yield f"the plain step itself does not keep its shardings at {places}: XLA chooses others."
    for place, rows in beside_plain(records).items():
        for row in rows:
            where = f"{row.record.variant} at {place}"
            if row.plain.shardings_kept and not row.record.shardings_kept:
                yield f"{where} does not keep its shardings."
            if not row.same_collectives:
                yield (
                    f"{where} has {format_collectives(row.record)}; the plain step "
                    f"{format_collectives(row.plain)}."
                )


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    target = TARGETS[config.target].summary if config.target else None
    plain = [record for record in records if record.variant == PLAIN]
    found = {
        "glance": glance(records),
        "shares": _shares(records),
        "densities": _by_mesh(records, lambda row: f"{per_parameter_byte(row):.2f}"),
        "temporaries": _by_mesh(records, lambda row: _percent(temporary_share(row))),
        "plain": Table(_PLAIN, plain),
    }
    floors = {name: floor for name in config.variants if (floor := VARIANTS[name].floor)}
    return {
        "where": f" on {target}" if target else "",
        "by_what": f" Compiled for {target} by {config.compiler}, not there." if target else "",
        "if_target": "" if target else None,
        "if_here": None if target else "",
        "notes": paragraphs(notes(records, config, meta)),
        "horizon": HORIZON,
        "blocks": BLOCKS,
        "layouts": " ".join(f"`{name}` is {summary}." for name, summary in LAYOUTS.items()),
        "floors": "; ".join(f"`{name}`: {floor.formula}" for name, floor in floors.items()),
        **{name: table.markdown() if records else None for name, table in found.items()},
    }
