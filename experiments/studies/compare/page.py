"""The page of a comparison: every arm against ``s=0``, and who wins how often."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table as TerminalTable
from rich.text import Text

from experiments.compared import (
    ArmSummary,
    Cell,
    Measure,
    Verdicts,
    is_better,
    summarize,
    tally,
)
from experiments.formats import format_difference, format_interval
from experiments.page import TABLE_STYLE, Column, Table, markdown_table
from experiments.statistics import CONFIDENCE
from experiments.studies.compare.ask import Config, Record
from experiments.studies.compare.curves import plot_curves
from experiments.tasks import load_task

FIGURES = {"curves.png": plot_curves}

_LEGEND = (
    f"mean ± {CONFIDENCE:.0%} interval over seeds; Δ: paired difference to s=0, "
    "* where its interval excludes zero"
)


def measures_of(config: Config) -> tuple[Measure, ...]:
    """Returns the measures that a comparison reports."""
    metric, target = load_task(config.task).metric, config.target_loss
    early = Measure(
        f"train loss, epoch {config.early_epoch}", lambda run: run.early_loss, _diverged
    )
    measures = [
        early if config.early_epoch < config.epochs else None,
        Measure(f"train loss, epoch {config.epochs}", lambda run: run.final_loss, _diverged),
        Measure(f"epochs to loss {target:g}", lambda run: run.epochs_to_target, _reached)
        if target
        else None,
        Measure(
            f"test {metric.label}",
            lambda run: run.final_test_metric,
            _diverged,
            higher_is_better=metric.higher_is_better,
        ),
    ]
    return tuple(measure for measure in measures if measure)


def _diverged(present: int, seeds: int) -> str:
    return f"{seeds - present}/{seeds} diverged"


def _reached(present: int, seeds: int) -> str:
    return f"{present}/{seeds} reached"


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    measures = measures_of(config)
    rows = summarize(records, measures)
    verdicts = tally(rows, measures)
    return {
        "heading": _heading(config),
        "if_compared": "" if verdicts else None,
        "verdicts": _tally_table(verdicts, measures).markdown() if verdicts else None,
        "multiplicity": _multiplicity(verdicts) if verdicts else None,
        "arms": _arms_table(rows, measures).markdown() if rows else None,
        "seeds": _count(len(config.seeds), "seed"),
        "confidence": f"{CONFIDENCE:.0%}",
        "rates": "\n".join(
            markdown_table(["optimizer", "learning rate"], config.learning_rates.items())
        ),
        "seed_list": ", ".join(map(str, config.seeds)),
    }


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns the report for the terminal: every arm, then the count of wins and losses."""
    measures = measures_of(config)
    rows = summarize(records, measures)
    parts: list[RenderableType] = [_terminal_arms(rows, measures, config)]
    verdicts = tally(rows, measures)
    if verdicts:
        title = "Optimizers clearly better / worse than their s=0"
        parts.append(_tally_table(verdicts, measures).terminal(title))
        parts.append(Text(_multiplicity(verdicts), style="dim"))
    return Group(*parts)


def format_value(cell: Cell, measure: Measure) -> str:
    """Formats what an arm reached; seeds without a value are counted, never averaged away."""
    parts = [format_interval(cell.interval)] if cell.interval else []
    if cell.present < cell.seeds:
        parts.append(f"({measure.shortfall(cell.present, cell.seeds)})")
    return " ".join(parts)


def _arms_table(rows: Sequence[ArmSummary], measures: Sequence[Measure]) -> Table:
    columns = [Column("optimizer", lambda row: row.optimizer), Column("arm", lambda row: row.arm)]
    for place, measure in enumerate(measures):
        columns += [
            Column(measure.title, lambda row, at=place, m=measure: format_value(row.cells[at], m)),
            Column("Δ", lambda row, at=place: _difference(row.cells[at])),
        ]
    return Table(columns, rows)


def _difference(cell: Cell) -> str:
    return format_difference(cell.difference) if cell.difference else ""


def _terminal_arms(
    rows: Sequence[ArmSummary], measures: Sequence[Measure], config: Config
) -> TerminalTable:
    table = TerminalTable(title=f"{_heading(config)}\n{_LEGEND}", **TABLE_STYLE)
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
    columns = [Column("arm", lambda row: row[0], left=True)]
    for place, measure in enumerate(measures):
        columns.append(Column(measure.title, lambda row, at=place: _format_verdicts(row[1][at])))
    return Table(columns, list(verdicts.items()))


def _format_verdicts(verdicts: Verdicts) -> str:
    return f"{verdicts.better} / {verdicts.worse} of {verdicts.compared}"


def _heading(config: Config) -> str:
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
