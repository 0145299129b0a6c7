"""``report``: a folder of results turned into README.md, tables.tex and plots."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.arms import SAM_EQUAL
from experiments.errors import UsageError
from experiments.page import Table, fill, print_plain
from experiments.studies.evidence import sentences
from experiments.studies.evidence.ask import ReportConfig
from experiments.studies.evidence.effects import Comparison, compare
from experiments.studies.evidence.planned import results_on
from experiments.studies.evidence.rows import Row, read_rows
from experiments.studies.evidence.summaries import RowSummary, data_of, of_study, summarize_row
from experiments.studies.evidence.tables import (
    EFFECTS,
    REGISTERED,
    Repeated,
    repeated_table,
    study_table,
)
from experiments.tasks import load_task
from experiments.training.result import Result, read_results

REPORT_FILE, LATEX_FILE = "README.md", "tables.tex"
CAVEATS_FILE = "caveats.md"  # beside results: what is to be known of their data

_COMPARED = ("main", "papers", "graphs")
_REPEATED = "again"  # the study of rows that are those of _COMPARED with other seeds
_OTHERS = ("baselines", "horizon", "decay", "robustness", "predictors", "others")
_PLOTTED = ("horizon", "robustness")
_PROSE = Path(__file__).with_suffix(".md")


def report(config: ReportConfig) -> int:
    """Writes the report that was asked for; returns the exit status."""
    write_report(config.results, config.output or config.results, read_rows(config.table))
    return 0


def write_report(folder: Path, output: Path, rows: Sequence[Row]) -> None:
    """Reads all ``*.jsonl`` files of a folder and writes what they say.

    Args:
        folder: where the results are; what its ``caveats.md`` says of their data, if there is one,
            stands in the report too.
        output: where the report goes.
        rows: the registered table.

    Raises:
        UsageError: there are no results, or the report cannot be written.
    """
    found, complaints = read_results(sorted(folder.glob("*.jsonl")))
    console = Console(stderr=True)
    for complaint in complaints:
        print_plain(console, complaint)
    if not found:
        raise UsageError(f"no results in {str(folder)!r}; 'python -m experiments sweep' makes some")
    summaries = [_summary(row, found, console) for row in rows]
    compared = [compare(study, summaries) for study in _COMPARED]
    short = list(_short(summaries, compared))
    try:
        output.mkdir(parents=True, exist_ok=True)
        holes = _holes(summaries, compared, found) | {
            "caveats": _caveats(folder / CAVEATS_FILE),
            "verdicts": "\n".join(f"- {line}" for line in short) or None,
        }
        text = fill(_PROSE.read_text(encoding="utf-8"), holes)
        # Committed reports end in an empty line.
        (output / REPORT_FILE).write_text(f"{text}\n", encoding="utf-8")
        (output / LATEX_FILE).write_text(_latex(summaries, compared), encoding="utf-8")
        _plot(output, summaries, compared)
    except OSError as error:
        raise UsageError(f"cannot write to {str(output)!r} ({error.strerror})") from error
    for line in short:
        print_plain(console, line)
    print_plain(console, f"report: {output / REPORT_FILE}")


def _summary(row: Row, found: Iterable[Result], console: Console) -> RowSummary:
    results, others = results_on(data_of(row, found), row, found)
    if others:
        print_plain(console, others)
    return summarize_row(row, load_task(row.task, row.preset).protocol, results)


def _plot(output: Path, summaries: Sequence[RowSummary], compared: Sequence[Comparison]) -> None:
    from experiments.studies.evidence.plots import plot_comparison, plot_study

    for comparison in compared:
        plot_comparison(output, comparison)
    for study in _PLOTTED:
        plot_study(output, study, of_study(study, summaries))


def _short(summaries: Sequence[RowSummary], compared: Sequence[Comparison]) -> Iterator[str]:
    yield from sentences.verdicts(compared)
    yield from sentences.areas(of_study("robustness", summaries))
    yield from sentences.repetitions(_repeated(summaries))


def _repeated(summaries: Sequence[RowSummary]) -> list[Repeated]:
    """Returns the rows of ``again``, each with the row that it repeats."""

    def same(one: RowSummary, other: RowSummary) -> bool:
        names = ("task", "preset", "optimizer", "weight_decay", "data")
        return all(getattr(one.row, name) == getattr(other.row, name) for name in names)

    return [
        Repeated(first, again)
        for again in of_study(_REPEATED, summaries)
        for study in _COMPARED
        for first in of_study(study, summaries)
        if same(first, again)
    ]


def _holes(
    summaries: Sequence[RowSummary], compared: Sequence[Comparison], results: Sequence[Result]
) -> dict[str, Any]:
    """Returns what fills ``page.md``; None for what was not run."""
    others = {study: of_study(study, summaries) for study in _OTHERS}
    repeated = [_titled(rows.again, repeated_table(rows)) for rows in _repeated(summaries)]
    return {
        "origin": _origin(results),
        "cpu": "`cpu`" if any(result.spec.preset == "cpu" for result in results) else None,
        "sam_equal": f"`{SAM_EQUAL}`" if any(map(_has_sam_equal, summaries)) else None,
        "registered": Table(REGISTERED, summaries).markdown(),
        "outside": sentences.outside(summaries),
        "plots": {study: f"{study}.png" if others[study] else None for study in _PLOTTED},
        _REPEATED: "\n\n".join(repeated) or None,
        **{one.study: _comparison(one) if one.rows else None for one in compared},
        **{
            study: "\n\n".join(_titled(row, study_table(row)) for row in rows) or None
            for study, rows in others.items()
        },
    }


def _caveats(file: Path) -> str | None:
    """Returns what a file says, each paragraph in a line."""
    if not file.exists():
        return None
    paragraphs = file.read_text(encoding="utf-8").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _has_sam_equal(summary: RowSummary) -> bool:
    return summary.arm(SAM_EQUAL) is not None


def _comparison(comparison: Comparison) -> str:
    study = comparison.study
    parts = [
        *([f"![Effects](forest-{study}.png)"] if comparison.effects else []),
        *([f"![Performance profiles](profiles-{study}.png)"] if comparison.profiles else []),
    ]
    for question, found in comparison.effects.items():
        parts += [
            f"{question.what} against {question.against}:",
            Table(EFFECTS, found).markdown(),
        ]
    for summary in comparison.rows:
        curves = f"![Curves](curves-{summary.row.name}.png)"
        parts.append(_titled(summary, study_table(summary, adjusted=False), curves))
    return "\n\n".join(parts)


def _titled(summary: RowSummary, table: Table, *more: str) -> str:
    parts = [f"### {summary.row.name}", summary.row.note, *more, table.markdown()]
    return "\n\n".join(part for part in parts if part)


def _origin(results: Sequence[Result]) -> str:
    environments = [result.environment for result in results if result.environment]
    if not environments:
        return f"{len(results)} runs, all of which failed."
    dates = sorted(environment["date"][:10] for environment in environments)
    machines = sorted({_machine(environment["device"]) for environment in environments})
    versions = environments[0]["versions"]
    span = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return (
        f"{len(results)} runs, {span}, on {'; '.join(machines)}; jax {versions['jax']}, optax "
        f"{versions['optax']}."
    )


def _machine(device: Mapping[str, Any]) -> str:
    if device["kind"] != "cpu":
        return f"{device['kind']}"
    return f"{device['cpu_model'] or 'an unknown processor'} ({device['cpu_cores']} cores)"


def _latex(summaries: Sequence[RowSummary], compared: Sequence[Comparison]) -> str:
    """Returns the tables of effects, and those of all rows that have results, for ``booktabs``."""
    effects = [
        Table(EFFECTS, found).latex(f"{one.study}: {question.what} against {question.against}")
        for one in compared
        for question, found in one.effects.items()
    ]
    rows = [
        study_table(summary, summary.row.study not in _COMPARED).latex(summary.row.name)
        for summary in summaries
        if summary.arms
    ]
    return "\n".join([*effects, *rows])
