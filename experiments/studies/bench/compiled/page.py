"""The page of compiled steps: ratios to the plain step, least to most, and every figure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from experiments.compilers.targets import TARGETS
from experiments.formats import format_bytes, format_count
from experiments.page import Column, Table, shortfall
from experiments.provenance import cautions
from experiments.studies.bench.beside import (
    VARIANT,
    Beside,
    Figure,
    arguments,
    beside_plain,
    by_variant,
    explained,
    format_collectives,
    format_range,
    moved,
    paragraphs,
    temporary,
)
from experiments.studies.bench.choices import LAYOUTS
from experiments.studies.bench.compiled.ask import COMPILED, Config, Record
from experiments.studies.bench.variants import HORIZON, VARIANTS
from experiments.studies.bench.workloads import WORKLOADS

FIGURES: Mapping[str, Any] = {}

_COUNTED = {"arguments": arguments, "bytes moved": moved, "temporaries": temporary}


def _range(title: str, figure: Figure) -> Column:
    return Column(
        f"{title} / plain", lambda rows: format_range([row.ratio(figure) for row in rows], 3)
    )


# About a variant in all groups.
_GLANCE = (
    Column("variant", lambda rows: rows[0].record.variant, left=True),
    *(_range(title, figure) for title, figure in _COUNTED.items()),
    Column(
        "collectives as plain",
        lambda rows: f"{sum(row.same_collectives for row in rows)} of {len(rows)}",
    ),
)


def _glance(records: Sequence[Record]) -> Table:
    return Table(_GLANCE, list(by_variant(beside_plain(records)).values()))


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns the table for the terminal."""
    return _glance(records).terminal(f"Compiled for {_device(config)}, over plain Optax")


def notes(records: Any, config: Any, meta: Mapping[str, Any]) -> Iterator[str]:
    """Yields what a reader must know before the figures, one sentence each."""
    if missing := shortfall(meta):
        yield missing
    yield from cautions(meta, timed=False)


def _device(config: Config) -> str:
    return TARGETS[config.target].summary


def _origin(config: Config, meta: Mapping[str, Any]) -> str:
    versions, git = meta["versions"], meta["git"]
    commit = f", commit {git['commit'][:12]}" if git else ""
    return (
        f"{meta['date']}, {config.compiler}, jax {versions['jax']}, optax {versions['optax']}, "
        f"xgrad_optax {versions['xgrad_optax']}{commit}."
    )


def _matrix(records: Sequence[Record]) -> Table:
    """A line for each group, a column for each variant."""
    groups = beside_plain(records)

    def cell(variant: str) -> Callable[[tuple[str, Sequence[Beside]]], str]:
        def ratio(group: tuple[str, Sequence[Beside]]) -> str:
            found = (row for row in group[1] if row.record.variant == variant)
            return "".join(f"{row.ratio(moved):.3f}" for row in found)

        return ratio

    columns = [Column(variant, cell(variant)) for variant in by_variant(groups)]
    return Table([Column("step", lambda group: group[0]), *columns], list(groups.items()))


def _figures() -> Iterator[Column]:
    yield VARIANT
    for title, figure in _COUNTED.items():
        yield Column(title, lambda row, of=figure: format_bytes(of(row.record)))
        yield Column("/ plain", lambda row, of=figure: f"{row.ratio(of):.3f}")
    yield Column(
        "moved beyond plain, in P", lambda row: f"{row.extra(moved) / row.plain.params_bytes:.2f}"
    )
    yield Column("collectives", lambda row: format_collectives(row.record))


def _section(title: str, rows: Sequence[Beside]) -> str:
    plain = rows[0].plain
    return (
        f"### {title}\n\n{format_count(plain.parameters)} parameters, "
        f"{format_bytes(plain.params_bytes)} of them on each device (P); batch "
        f"{plain.batch_size}.\n\n{Table(list(_figures()), rows).markdown()}"
    )


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    groups = beside_plain(records).items()
    each = Column("examples on each device", lambda name: str(COMPILED[name].batch_size))
    return {
        "device": _device(config),
        "origin": _origin(config, meta),
        "notes": paragraphs(notes(records, config, meta)),
        "horizon": HORIZON,
        "if_compiled": "" if records else None,
        "glance": _glance(records).markdown() if records else None,
        "moved": _matrix(records).markdown() if records else None,
        "groups": "\n\n".join(_section(*group) for group in groups) or None,
        "layouts": " ".join(f"`{name}` is {LAYOUTS[name]}." for name in config.layouts),
        "target_notes": TARGETS[config.target].notes or None,
        "variants": explained("variant", VARIANTS, config.variants),
        "models": explained("model", WORKLOADS, config.models, each),
    }
