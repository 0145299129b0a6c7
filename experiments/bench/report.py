"""The report of a benchmark: a table on the terminal and ``report.md``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from experiments.bench.config import BenchConfig, Group
from experiments.bench.records import BenchRecord
from experiments.bench.summary import Comparison, compare
from experiments.bench.units import (
    format_bytes,
    format_count,
    format_extra,
    format_ratio,
    format_share,
)
from experiments.bench.variants import CONTROL, HORIZON, LEARNING_RATE, VARIANTS
from experiments.bench.workloads import WORKLOADS
from experiments.folder import FILES_NOTE
from experiments.page import TABLE_STYLE, markdown_table
from experiments.provenance import cautions, describe_origin
from experiments.runs import shortfall

BARS_FILE = "bars.png"

_LEGEND = (
    "step: time over the plain step's of the same round, median [95 % interval]; compile: likewise;"
    "\nthe rest, exact: what the variant adds to the plain step, in % of it"
)


def terminal_report(records: Sequence[BenchRecord]) -> RenderableType:
    """Returns the table for the terminal."""
    table = Table(title=_LEGEND, **TABLE_STYLE)
    table.add_column("variant", no_wrap=True)
    for title in ("step", "compile", "bytes accessed", "floor", "peak temp.", "state", "floor"):
        table.add_column(title, justify="right", no_wrap=True)
    for group, comparisons in compare(records).items():
        table.add_section()
        table.add_row(Text(str(group), "bold"))
        for comparison in comparisons:
            cells = _plain_cells(comparison) if comparison.is_plain else _added_cells(comparison)
            style = "dim" if comparison.record.variant == CONTROL else ""
            table.add_row(comparison.record.variant, *cells, style=style)
    return table


def _plain_cells(comparison: Comparison) -> list[str]:
    record = comparison.record
    exact, carried = (record.exact, format_bytes(record.carried))
    traffic, temporary = format_bytes(exact.bytes_accessed), format_bytes(exact.temporary)
    return [_plain_step(record), _plain_compilation(record), traffic, "", temporary, carried, ""]


def _added_cells(comparison: Comparison) -> list[str]:
    floor, plain = comparison.record.floor, comparison.plain
    traffic, temporary, carried = (
        format_share(extra.difference, extra.plain)
        for extra in map(comparison.extra, (_bytes_accessed, _temporary, _carried))
    )
    return [
        format_ratio(comparison.step_ratio),
        f"{comparison.compile_ratio:.2f}",
        traffic,
        format_share(floor.traffic, plain.exact.bytes_accessed) if floor else "",
        temporary,
        carried,
        format_share(floor.state, plain.carried) if floor else "",
    ]


def markdown_report(
    records: Sequence[BenchRecord],
    config: BenchConfig,
    meta: dict[str, Any],
    *,
    bars: str = BARS_FILE,
    files: str = FILES_NOTE,
) -> str:
    """Returns the text of ``report.md``.

    Args:
        records: what was measured.
        config: what was asked for.
        meta: the contents of ``meta.json``.
        bars: name of the file with the bar chart.
        files: sentences that say where the figures are kept.

    Returns:
        Markdown.
    """
    return "\n".join(_markdown_lines(records, config, meta, bars, files)) + "\n"


def _markdown_lines(
    records: Sequence[BenchRecord],
    config: BenchConfig,
    meta: dict[str, Any],
    bars: str,
    files: str,
) -> Iterator[str]:
    groups = compare(records)
    yield "# What weight prediction costs"
    yield f"\n{describe_origin(meta)}"
    yield from (f"\n**Note:** {text}" for text in caveats(records, meta))
    yield (
        "\nModels have random weights and are fed random data: this measures cost and nothing "
        "else. Every figure is set against plain Optax: the same model, optimizer and batch in "
        f"the same process.{_where(meta)}"
    )
    if groups:
        yield f"\n![Step time and extra bytes of every variant]({bars})"
        yield "\n## Exact figures\n"
        yield "What XLA says about the compiled step; the same at each run on the same software."
        for group, comparisons in groups.items():
            yield from _exact_table(group, comparisons)
        yield "\n## Timed figures\n"
        yield (
            "Ratios of step times within a round, median and 95 % interval, and of median compile "
            "times. Absolute times mean something only on a GPU or a quiet machine. "
            f"`{CONTROL}` is the plain step again: as far as it is from 1, so far is noise."
        )
        for group, comparisons in groups.items():
            yield from _timed_table(group, comparisons)
    yield from _notes(config, files)


def caveats(records: Sequence[BenchRecord], meta: dict[str, Any]) -> Iterator[str]:
    """Yields what a reader must know before the figures, one sentence each."""
    if missing := shortfall("groups", meta):
        yield missing
    yield from cautions(meta, timed=True)
    for record in records:
        name = f"{record.variant} of {record.model} {record.optimizer} batch {record.batch_size}"
        if record.compilations != 1:
            yield f"{name} was compiled {record.compilations} times, not once."
        if not record.timed.loss_is_finite:
            yield f"the loss of {name} is no longer finite, which may change its time."


def _exact_table(group: Group, comparisons: Sequence[Comparison]) -> Iterator[str]:
    plain = comparisons[0].plain
    yield (
        f"\n### {group}: exact\n\n{format_count(plain.parameters)} parameters in "
        f"{format_bytes(plain.params_bytes)}.\n"
    )
    header = ["variant", "bytes accessed", "floor", "peak temporary", "state", "floor"]
    header += ["arguments", "outputs", "aliased", "flops", "instructions", "collectives"]
    yield from markdown_table([*header, "compilations"], map(_exact_cells, comparisons))


def _exact_cells(comparison: Comparison) -> list[str]:
    exact = comparison.record.exact
    return [
        comparison.record.variant,
        _cell(comparison, _bytes_accessed),
        _floor(comparison, "traffic"),
        _cell(comparison, _temporary),
        _cell(comparison, _carried),
        _floor(comparison, "state"),
        _cell(comparison, lambda record: record.exact.arguments),
        _cell(comparison, lambda record: record.exact.outputs),
        _cell(comparison, lambda record: record.exact.aliased),
        format_extra(
            comparison.extra(lambda record: record.exact.flops),
            is_plain=comparison.is_plain,
            bytes_=False,
        ),
        str(exact.instructions),
        format_collectives(exact.collectives),
        str(comparison.record.compilations),
    ]


def format_collectives(collectives: Mapping[str, int]) -> str:
    """Formats the number of collective operations by kind."""
    return ", ".join(f"{count} {kind}" for kind, count in collectives.items()) or "none"


def _cell(comparison: Comparison, figure: Callable[[BenchRecord], int]) -> str:
    return format_extra(comparison.extra(figure), is_plain=comparison.is_plain)


def _floor(comparison: Comparison, name: str) -> str:
    floor = comparison.record.floor
    return "" if floor is None or comparison.is_plain else format_bytes(getattr(floor, name))


def _bytes_accessed(record: BenchRecord) -> int:
    return record.exact.bytes_accessed


def _temporary(record: BenchRecord) -> int:
    return record.exact.temporary


def _carried(record: BenchRecord) -> int:
    return record.carried


def _timed_table(group: Group, comparisons: Sequence[Comparison]) -> Iterator[str]:
    plain = comparisons[0].plain
    yield (
        f"\n### {group}: timed\n\nPlain step: {_plain_step(plain)}, "
        f"{len(plain.timed.step_seconds)} rounds; compiled in {_plain_compilation(plain)}.\n"
    )
    yield from markdown_table(
        ["variant", "step time / plain", "compile time / plain"],
        (
            [
                comparison.record.variant,
                format_ratio(comparison.step_ratio),
                f"{comparison.compile_ratio:.2f}",
            ]
            for comparison in comparisons
            if not comparison.is_plain
        ),
    )


def _plain_step(record: BenchRecord) -> str:
    return f"{1e3 * np.median(record.timed.step_seconds):.3g} ms"


def _plain_compilation(record: BenchRecord) -> str:
    return f"{np.median(record.timed.compile_seconds):.2f} s"


def _where(meta: dict[str, Any]) -> str:
    on_cpu = meta["device"]["platform"] == "cpu"
    return " All of it was measured on a CPU; no GPU was measured." if on_cpu else ""


def _notes(config: BenchConfig, files: str) -> Iterator[str]:
    yield "\n## How to read this\n"
    yield (
        "- Bytes accessed and flops come from XLA's cost model of the optimized program: what each "
        "instruction reads and writes, caches ignored, the body of a loop (the LSTM's over time) "
        "counted once. Peak temporary is what a step needs besides arguments and outputs. State is "
        "what the loop keeps, parameters included."
    )
    yield (
        "- A floor is what any implementation must move, or carry, beyond an ideal plain step "
        "(below). A variant can be below it, because XLA's plain step moves more than it must: on "
        "a CPU for example it copies donated weights, which the predicted step does not need."
    )
    yield (
        "- Every round runs one step of each variant in random order, so that the machine's mood "
        "cancels in the ratio. Compile time is tracing, lowering and compiling anew, "
        f"{config.compilations} times in random order."
    )
    yield (
        "- `sam` computes two gradients per update and is counted per update. `schedule-free` "
        "replaces momentum, in the form that Optax recommends. `lookahead` carries two sets of "
        "parameters. `nesterov` is NAdam for Adam and NAdamW for AdamW."
    )
    yield "\n## Variants\n"
    yield from markdown_table(
        ["variant", "what it is", "floor of its extra bytes accessed"],
        (
            [name, variant.summary, variant.floor.formula if variant.floor else "none stated"]
            for name, variant in ((name, VARIANTS[name]) for name in config.variants)
        ),
    )
    yield "\n## Configuration\n"
    yield from markdown_table(
        ["model", "what it is"], ([name, WORKLOADS[name].summary] for name in config.models)
    )
    yield (
        f"\nParameters and activations in {config.dtype}; horizon s = {HORIZON}, learning rate "
        f"{LEARNING_RATE:g}, seed {config.seed}. {files}"
    )
