"""The report of a comparison: a table on the terminal and ``report.md``."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from experiments.compared import ArmSummary, Cell, Measure, Verdicts, is_better, tally
from experiments.config import CompareConfig
from experiments.folder import META_FILE, RUNS_FILE
from experiments.formats import format_difference, format_interval
from experiments.page import TABLE_STYLE, markdown_table
from experiments.results import CURVES_FILE
from experiments.statistics import CONFIDENCE

_LEGEND = (
    f"mean ± {CONFIDENCE:.0%} interval over seeds; Δ: paired difference to s=0, "
    "* where its interval excludes zero"
)


def format_value(cell: Cell, measure: Measure) -> str:
    """Formats what an arm reached; seeds without a value are counted, never averaged away."""
    parts = [format_interval(cell.interval)] if cell.interval else []
    if cell.present < cell.seeds:
        parts.append(f"({measure.shortfall(cell.present, cell.seeds)})")
    return " ".join(parts)


def terminal_report(
    rows: Sequence[ArmSummary], measures: Sequence[Measure], config: CompareConfig
) -> RenderableType:
    """Returns the report for the terminal: every arm, then the count of wins and losses."""
    parts: list[RenderableType] = [_arms_table(rows, measures, config)]
    verdicts = tally(rows, measures)
    if verdicts:
        parts += [_tally_table(verdicts, measures), Text(_multiplicity(verdicts), style="dim")]
    return Group(*parts)


def _arms_table(
    rows: Sequence[ArmSummary], measures: Sequence[Measure], config: CompareConfig
) -> Table:
    table = Table(title=f"{_heading(config)}\n{_LEGEND}", **TABLE_STYLE)
    table.add_column("optimizer", style="bold")
    table.add_column("arm")
    for measure in measures:
        table.add_column(measure.title, justify="right")
    previous = None
    for row in rows:
        if row.optimizer != previous:
            table.add_section()
        name = "" if row.optimizer == previous else row.optimizer
        cells = [_terminal_cell(*pair) for pair in zip(row.cells, measures, strict=True)]
        table.add_row(name, row.arm, *cells)
        previous = row.optimizer
    return table


def _terminal_cell(cell: Cell, measure: Measure) -> Text:
    text = Text(format_value(cell, measure))
    if cell.difference:
        style = "dim"
        if cell.difference.excludes_zero:
            style = "green" if is_better(measure, cell.difference) else "red"
        text.append(f"\nΔ {format_difference(cell.difference)}", style)
    return text


def _tally_table(verdicts: Mapping[str, Sequence[Verdicts]], measures: Sequence[Measure]) -> Table:
    table = Table(title="Optimizers clearly better / worse than their s=0", **TABLE_STYLE)
    table.add_column("arm")
    for measure in measures:
        table.add_column(measure.title, justify="right")
    for arm, counts in verdicts.items():
        table.add_row(arm, *map(_format_verdicts, counts))
    return table


def _format_verdicts(verdicts: Verdicts) -> str:
    return f"{verdicts.better} / {verdicts.worse} of {verdicts.compared}"


def _heading(config: CompareConfig) -> str:
    seeds, epochs = _count(len(config.seeds), "seed"), _count(config.epochs, "epoch")
    return f"{config.task}: {seeds}, {epochs}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _multiplicity(verdicts: Mapping[str, Sequence[Verdicts]]) -> str:
    counts = [count for row in verdicts.values() for count in row]
    compared = sum(count.compared for count in counts)
    marked = sum(count.better + count.worse for count in counts)
    return (
        f"{compared} comparisons without correction for their number, {marked} of them marked; "
        f"if no arm differed from s=0, about {(1 - CONFIDENCE) * compared:.1f} would be by chance. "
        "Arms share their seeds, so the comparisons are not independent."
    )


def markdown_report(
    rows: Sequence[ArmSummary],
    measures: Sequence[Measure],
    config: CompareConfig,
    planned_arms: int,
) -> str:
    """Returns the text of ``report.md``.

    Args:
        rows: what the finished arms reached.
        measures: what the columns are.
        config: what was asked for.
        planned_arms: how many arms were to run; fewer rows mean that the run was interrupted.

    Returns:
        Markdown.
    """
    return "\n".join(_markdown_lines(rows, measures, config, planned_arms)) + "\n"


def _markdown_lines(
    rows: Sequence[ArmSummary],
    measures: Sequence[Measure],
    config: CompareConfig,
    planned_arms: int,
) -> Iterator[str]:
    yield f"# Weight prediction on {_heading(config)}"
    if len(rows) < planned_arms:
        yield f"\n**Interrupted:** {len(rows)} of {planned_arms} arms finished."
    if rows:
        yield f"\n![Training loss of every arm]({CURVES_FILE})"
        yield from _markdown_tally(rows, measures)
        yield "\n## Every arm\n"
        yield from markdown_table(_arms_header(measures), _arms_cells(rows, measures))
    yield "\n## How to read this\n"
    yield from _notes(config)
    yield "\n## Configuration\n"
    yield from markdown_table(["optimizer", "learning rate"], config.learning_rates.items())
    yield f"\nLearning rates: {config.learning_rate_origin}."
    yield (
        f"Batch size {config.batch_size}; seeds {', '.join(map(str, config.seeds))}. "
        f"Versions, device, date and commit: `{META_FILE}`; every curve: `{RUNS_FILE}`."
    )


def _markdown_tally(rows: Sequence[ArmSummary], measures: Sequence[Measure]) -> Iterator[str]:
    verdicts = tally(rows, measures)
    if not verdicts:
        return
    yield "\n## At a glance\n"
    yield "Number of optimizers clearly better / worse than their plain form `s=0`:\n"
    yield from markdown_table(
        ["arm", *(measure.title for measure in measures)],
        ([arm, *map(_format_verdicts, counts)] for arm, counts in verdicts.items()),
    )
    yield f"\n{_multiplicity(verdicts)}"


def _arms_header(measures: Sequence[Measure]) -> list[str]:
    titles = [title for measure in measures for title in (measure.title, "Δ")]
    return ["optimizer", "arm", *titles]


def _arms_cells(rows: Sequence[ArmSummary], measures: Sequence[Measure]) -> Iterator[list[str]]:
    for row in rows:
        cells = [row.optimizer, row.arm]
        for cell, measure in zip(row.cells, measures, strict=True):
            difference = format_difference(cell.difference) if cell.difference else ""
            # A bare star would start emphasis.
            cells += [format_value(cell, measure), difference.replace("*", "\\*")]
        yield cells


def _notes(config: CompareConfig) -> Iterator[str]:
    yield (
        f"- Values are means over {_count(len(config.seeds), 'seed')} ± the half width of their "
        f"{CONFIDENCE:.0%} interval by Student's t; one seed has no interval."
    )
    yield (
        "- Δ is the difference to `s=0` at the same seed, hence with the same initial parameters "
        "and the same batches, averaged over seeds. A star marks an interval that excludes zero. "
        "Epochs are whole numbers, so that equal differences can give an interval of width zero."
    )
    yield (
        "- `s=0` is the plain optimizer, run without this library's prediction. The baselines and "
        "all horizons use the learning rate of their plain optimizer: none is tuned for them."
    )
    yield (
        "- A seed that diverged, or never reached the target loss, has no value: it is counted "
        "beside the mean of the others, and no Δ is given."
    )
    yield "- Training loss is over the whole training set, at the true parameters."
    yield (
        "- The figure has logarithmic axes and shows geometric means. The strips show the loss as "
        "a multiple of that of `s=0` at the same seed."
    )
