"""The report of ``scale``: a table on the terminal and ``report.md``."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from experiments.bench.config import LAYOUTS, ScaleConfig
from experiments.bench.records import ScaleRecord
from experiments.bench.report import format_collectives
from experiments.bench.scale_summary import Addition, Glance, additions, glance
from experiments.bench.targets import TARGETS
from experiments.bench.units import format_bytes, format_count
from experiments.bench.variants import HORIZON, PLAIN, VARIANTS
from experiments.bench.workloads import BLOCKS
from experiments.folder import FILES_NOTE
from experiments.page import TABLE_STYLE, markdown_table
from experiments.provenance import cautions, describe_origin
from experiments.runs import shortfall

_GLANCE_HEADER = (
    "variant",
    "extra bytes per byte of parameters",
    "floor",
    "largest share of the plain step's bytes",
    "its largest growth with size",
    "with devices",
    "largest extra peak temporary",
    "collectives as plain",
    "shardings kept",
)


def _glance_cells(line: Glance) -> list[str]:
    least, most = f"{line.least:.2f}", f"{line.most:.2f}"
    return [
        line.variant,
        least if least == most else f"{least} to {most}",
        "" if line.floor is None else f"{line.floor:.2f}",
        _percent(line.share),
        f"x {line.growth:.3f}",
        f"x {line.spread:.3f}",
        _percent(line.temporary),
        f"{line.same_collectives} of {line.programs}",
        f"{line.shardings_kept} of {line.programs}",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:+.2f} %"


def terminal_report(records: Sequence[ScaleRecord]) -> RenderableType:
    """Returns the tables for the terminal."""
    overall = Table(title="What prediction adds, per device", **TABLE_STYLE)
    for number, title in enumerate(_GLANCE_HEADER):
        overall.add_column(title, justify="right" if number else "left")
    for line in glance(records):
        overall.add_row(*_glance_cells(line))
    shares = Table(title="Extra bytes accessed, share of the plain step's", **TABLE_STYLE)
    for number, title in enumerate(_by_mesh_header(records)):
        shares.add_column(title, justify="right" if number else "left")
    for row in _by_mesh(records, lambda addition: _percent(addition.traffic_share)):
        shares.add_row(*row)
    return Group(overall, shares)


def _by_mesh_header(records: Sequence[ScaleRecord]) -> list[str]:
    return ["size", "mesh", *dict.fromkeys(item.record.variant for item in additions(records))]


def _by_mesh(
    records: Sequence[ScaleRecord], cell: Callable[[Addition], str]
) -> Iterator[list[str]]:
    """Yields a row for each size and mesh, one cell for each variant."""
    rows: dict[tuple[str, str], list[str]] = {}
    for addition in additions(records):
        place = (addition.record.size, addition.record.mesh)
        rows.setdefault(place, list(place)).append(cell(addition))
    yield from rows.values()


def caveats(records: Sequence[ScaleRecord], meta: dict[str, Any]) -> Iterator[str]:
    """Yields what a reader must know before the figures, one sentence each."""
    if missing := shortfall("meshes", meta):
        yield missing
    yield from cautions(meta, timed=False)
    moved = [r for r in records if r.variant == PLAIN and not r.shardings_kept]
    if moved:
        places = "; ".join(f"{record.size}, {record.mesh}" for record in moved)
        yield f"the plain step itself does not keep its shardings at {places}: XLA chooses others."
    for addition in additions(records):
        if addition.plain.shardings_kept and not addition.record.shardings_kept:
            place = f"{addition.record.size}, {addition.record.mesh}"
            yield f"{addition.record.variant} at {place} does not keep its shardings."
        if not addition.same_collectives:
            yield (
                f"{addition.record.variant} at {addition.record.size}, {addition.record.mesh} has "
                f"{format_collectives(addition.record.exact.collectives)}; the plain step "
                f"{format_collectives(addition.plain.exact.collectives)}."
            )


def markdown_report(
    records: Sequence[ScaleRecord],
    config: ScaleConfig,
    meta: dict[str, Any],
    *,
    files: str = FILES_NOTE,
) -> str:
    """Returns the text of ``report.md``.

    Args:
        records: what was counted.
        config: what was asked for.
        meta: the contents of ``meta.json``.
        files: sentences that say where the figures are kept.

    Returns:
        Markdown.
    """
    return "\n".join(_markdown_lines(records, config, meta, files)) + "\n"


def _markdown_lines(
    records: Sequence[ScaleRecord], config: ScaleConfig, meta: dict[str, Any], files: str
) -> Iterator[str]:
    yield f"# What weight prediction adds at scale{_where(config)}"
    yield f"\n{describe_origin(meta)}{_by_what(config)}"
    yield from (f"\n**Note:** {text}" for text in caveats(records, meta))
    yield (
        "\nCounted, not timed: train steps of a decoder transformer, compiled for shapes alone. "
        f"Nothing was allocated or run. Optimizer {config.optimizer}, horizon s = {HORIZON}, "
        f"parameters and activations in {config.dtype}; all figures are those of one device."
    )
    if records:
        yield "\n## At a glance\n"
        yield from markdown_table(_GLANCE_HEADER, map(_glance_cells, glance(records)))
        yield "\n## Extra bytes accessed as a share of the plain step's\n"
        yield from _markdown_by_mesh(records, lambda addition: _percent(addition.traffic_share))
        yield "\n## Extra bytes accessed per byte of parameters\n"
        yield from _markdown_by_mesh(
            records, lambda addition: f"{addition.traffic_per_parameter_byte:.2f}"
        )
        yield "\n## Extra peak temporary bytes as a share of the plain step's\n"
        yield from _markdown_by_mesh(records, lambda addition: _percent(addition.temporary_share))
        yield "\n## The plain step\n"
        yield from _plain_table(records)
    yield from _notes(config, files)


def _where(config: ScaleConfig) -> str:
    return f" on {TARGETS[config.target].summary}" if config.target else ""


def _by_what(config: ScaleConfig) -> str:
    if config.target is None:
        return ""
    return f" Compiled for {TARGETS[config.target].summary} by {config.compiler}, not there."


def _markdown_by_mesh(
    records: Sequence[ScaleRecord], cell: Callable[[Addition], str]
) -> Iterator[str]:
    return markdown_table(_by_mesh_header(records), _by_mesh(records, cell))


def _plain_table(records: Sequence[ScaleRecord]) -> Iterator[str]:
    header = ["size", "mesh", "parameters", "bytes of parameters", "bytes accessed"]
    return markdown_table(
        [*header, "peak temporary", "instructions", "collectives"],
        (
            [
                record.size,
                record.mesh,
                format_count(record.parameters),
                format_bytes(record.params_bytes),
                format_bytes(record.step_bytes),
                format_bytes(record.exact.temporary),
                str(record.exact.instructions),
                format_collectives(record.exact.collectives),
            ]
            for record in records
            if record.variant == PLAIN
        ),
    )


def _counting(config: ScaleConfig) -> str:
    if config.target is not None:
        return (
            "- Bytes accessed are those that go through the device's main memory, added up over "
            "the scheduled program; the body of a loop counts as often as it runs. Collectives "
            "are those in the program's text: one inside the loop counts once."
        )
    return (
        "- Bytes accessed come from XLA's cost model. It counts the body of a loop once; the plain "
        "step's bytes are corrected by compiling it with two blocks in the body. Prediction is "
        "outside of the loop, so its own bytes need no correction. Collectives are those in the "
        "program's text: one inside the loop counts once."
    )


def _notes(config: ScaleConfig, files: str) -> Iterator[str]:
    yield "\n## How to read this\n"
    yield (
        f"- The transformer has {BLOCKS} blocks at every size. Only its width grows, and with it "
        "vocabulary, heads and tokens per step, so that a step does the same work for each "
        "parameter: if the share of prediction grew with size, that would be its own doing."
    )
    yield (
        "- Each device gets the same number of examples on every mesh. "
        + " ".join(f"`{name}` is {summary}." for name, summary in LAYOUTS.items())
    )
    yield _counting(config)
    yield (
        "- Shardings are kept if parameters, optimizer state and the predicted parameters leave "
        "the program sharded as they came, without being told to."
    )
    yield "- Floors: " + "; ".join(
        f"`{name}`: {floor.formula}" for name in config.variants if (floor := VARIANTS[name].floor)
    )
    yield f"\n{files}"
