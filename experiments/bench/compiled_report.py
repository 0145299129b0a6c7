"""The report of ``bench --target``: a table on the terminal and ``report.md``."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import RenderableType
from rich.table import Table

from experiments.bench.compiled_config import COMPILED, CompiledConfig
from experiments.bench.config import LAYOUTS
from experiments.bench.records import CompiledRecord
from experiments.bench.report import format_collectives
from experiments.bench.targets import TARGETS
from experiments.bench.units import format_bytes, format_count
from experiments.bench.variants import HORIZON, PLAIN, VARIANTS
from experiments.bench.workloads import WORKLOADS
from experiments.folder import FILES_NOTE
from experiments.page import TABLE_STYLE, markdown_table
from experiments.provenance import cautions
from experiments.runs import shortfall


class Beside(NamedTuple):
    """One variant beside the plain step.

    Attributes:
        record: the variant.
        plain: the plain step, compiled for the same devices.
    """

    record: CompiledRecord
    plain: CompiledRecord

    def ratio(self, figure: Callable[[CompiledRecord], int]) -> float:
        """Returns the variant's figure over the plain step's; 1 if both are nothing."""
        own, plain = figure(self.record), figure(self.plain)
        return own / plain if plain else 1.0 if not own else float("inf")

    @property
    def same_collectives(self) -> bool:
        """Whether the collective operations are the plain step's."""
        return self.record.exact.collectives == self.plain.exact.collectives


def arguments(record: CompiledRecord) -> int:
    """Bytes of parameters, state and batch."""
    return record.exact.arguments


def moved(record: CompiledRecord) -> int:
    """Bytes that go through main memory."""
    assert record.exact.moved is not None  # these records are no older than the figure
    return record.exact.moved


def temporary(record: CompiledRecord) -> int:
    """Peak bytes of everything in between."""
    return record.exact.temporary


_FIGURES = {"arguments": arguments, "bytes moved": moved, "temporaries": temporary}


def groups(records: Sequence[CompiledRecord]) -> dict[str, list[Beside]]:
    """Returns what was compiled side by side, plain steps included, by title."""
    found: dict[str, list[Beside]] = {}
    plain: dict[str, CompiledRecord] = {}
    for record in records:
        title = f"{record.model}, {record.optimizer}, {record.compute}, {record.mesh}"
        plain.setdefault(title, record)  # the plain step comes first
        found.setdefault(title, []).append(Beside(record, plain[title]))
    return found


def _by_variant(records: Sequence[CompiledRecord]) -> dict[str, list[Beside]]:
    found: dict[str, list[Beside]] = {}
    for members in groups(records).values():
        for beside in members:
            if beside.record.variant != PLAIN:
                found.setdefault(beside.record.variant, []).append(beside)
    return found


_GLANCE_HEADER = ("variant", *(f"{figure} / plain" for figure in _FIGURES), "collectives as plain")


def _glance(records: Sequence[CompiledRecord]) -> Iterator[list[str]]:
    for variant, found in _by_variant(records).items():
        same = sum(beside.same_collectives for beside in found)
        ranges = (
            _range([beside.ratio(figure) for beside in found]) for figure in _FIGURES.values()
        )
        yield [variant, *ranges, f"{same} of {len(found)}"]


def _range(ratios: Sequence[float]) -> str:
    least, most = f"{min(ratios):.3f}", f"{max(ratios):.3f}"
    return least if least == most else f"{least} to {most}"


def terminal_report(records: Sequence[CompiledRecord], config: CompiledConfig) -> RenderableType:
    """Returns the table for the terminal."""
    table = Table(title=f"Compiled for {_device(config)}, over plain Optax", **TABLE_STYLE)
    for number, title in enumerate(_GLANCE_HEADER):
        table.add_column(title, justify="right" if number else "left")
    for row in _glance(records):
        table.add_row(*row)
    return table


def caveats(meta: dict[str, Any]) -> Iterator[str]:
    """Yields what a reader must know before the figures, one sentence each."""
    if missing := shortfall("comparisons", meta):
        yield missing
    yield from cautions(meta, timed=False)


def markdown_report(
    records: Sequence[CompiledRecord],
    config: CompiledConfig,
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
    records: Sequence[CompiledRecord], config: CompiledConfig, meta: dict[str, Any], files: str
) -> Iterator[str]:
    yield f"# What weight prediction costs on {_device(config)}: compiled, not timed"
    yield f"\n{_origin(config, meta)}"
    yield from (f"\n**Note:** {text}" for text in caveats(meta))
    yield (
        "\nThe train steps were compiled by the device's own compiler on a machine that has no "
        "such device, for shapes alone: nothing was allocated, run or timed. The figures are exact "
        "and those of the program that the device would run; how long it takes they do not say. "
        "Each is set against plain Optax: the same model, optimizer, batch and devices. Horizon "
        f"s = {HORIZON}, weights and moments in float32; all bytes are those of one device."
    )
    if records:
        yield "\n## At a glance\n"
        yield "Ratios to the plain step, least to most over all that was compiled.\n"
        yield from markdown_table(_GLANCE_HEADER, _glance(records))
        yield from _matrix(records)
        yield "\n## All figures"
        for title, members in groups(records).items():
            yield from _group_table(title, members)
    yield from _notes(config, files)


def _device(config: CompiledConfig) -> str:
    return TARGETS[config.target].summary


def _origin(config: CompiledConfig, meta: dict[str, Any]) -> str:
    versions, git = meta["versions"], meta["git"]
    commit = f", commit {git['commit'][:12]}" if git else ""
    return (
        f"{meta['date']}, {config.compiler}, jax {versions['jax']}, optax {versions['optax']}, "
        f"xgrad_optax {versions['xgrad_optax']}{commit}."
    )


def _matrix(records: Sequence[CompiledRecord]) -> Iterator[str]:
    """A line for each group, a column for each variant."""
    variants = list(_by_variant(records))
    yield "\n## Bytes moved, as a multiple of the plain step's\n"
    rows = []
    for title, members in groups(records).items():
        ratios = {beside.record.variant: f"{beside.ratio(moved):.3f}" for beside in members}
        rows.append([title, *(ratios.get(variant, "") for variant in variants)])
    yield from markdown_table(["step", *variants], rows)


def _group_table(title: str, members: Sequence[Beside]) -> Iterator[str]:
    plain = members[0].plain
    yield (
        f"\n### {title}\n\n{format_count(plain.parameters)} parameters, "
        f"{format_bytes(plain.params_bytes)} of them on each device (P); batch "
        f"{plain.batch_size}.\n"
    )
    header = ["variant"]
    for figure in _FIGURES:
        header += [figure, "/ plain"]
    yield from markdown_table(
        [*header, "moved beyond plain, in P", "collectives"], map(_cells, members)
    )


def _cells(beside: Beside) -> list[str]:
    cells = [beside.record.variant]
    for figure in _FIGURES.values():
        cells += [format_bytes(figure(beside.record)), f"{beside.ratio(figure):.3f}"]
    extra = (moved(beside.record) - moved(beside.plain)) / beside.plain.params_bytes
    return [*cells, f"{extra:.2f}", format_collectives(beside.record.exact.collectives)]


def _notes(config: CompiledConfig, files: str) -> Iterator[str]:
    yield "\n## How to read this\n"
    yield (
        "- Arguments are what a step is given: weights, optimizer state, batch. Temporaries are "
        "the peak of everything between arguments and results, by the compiler's own account; "
        "`inf` stands where the plain step has none."
    )
    yield (
        "- Bytes moved go through the device's main memory: what each instruction of the scheduled "
        "program reads there and writes there, added up from its text. What stays on the chip does "
        "not count, caches are ignored. The body of a loop counts as often as it runs, and of an "
        "array that is sliced or updated in place only that part."
    )
    yield (
        "- Collectives are those in the program's text: one inside a loop counts once. "
        + " ".join(f"`{name}` is {LAYOUTS[name]}." for name in config.layouts)
    )
    yield (
        "- One thing is varied at a time: every optimizer on the first model, every model with the "
        "first optimizer in every dtype, and the first of each on several devices. The batch grows "
        "with the devices. Transformers loop over their blocks and compute a block's activations "
        "again in the backward pass, so that their programs compile in seconds."
    )
    if notes := TARGETS[config.target].notes:
        yield f"- {notes}"
    yield "\n## Variants\n"
    yield from markdown_table(
        ["variant", "what it is"], ([name, VARIANTS[name].summary] for name in config.variants)
    )
    yield "\n## Models\n"
    yield from markdown_table(
        ["model", "what it is", "examples on each device"],
        ([name, WORKLOADS[name].summary, COMPILED[name].batch_size] for name in config.models),
    )
    yield f"\n{files}"
