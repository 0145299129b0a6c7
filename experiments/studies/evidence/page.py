"""``report``: a folder of results turned into README.md, tables.tex and plots."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from experiments.arms import NESTEROV, PLAIN, SAM_EQUAL
from experiments.errors import UsageError
from experiments.formats import format_interval
from experiments.page import Column, Table, fill, print_plain
from experiments.statistics import Interval
from experiments.studies.evidence.ask import ReportConfig
from experiments.studies.evidence.effects import (
    Comparison,
    Effect,
    area_over_rates,
    compare,
    effect,
)
from experiments.studies.evidence.rows import Row, read_rows
from experiments.studies.evidence.summaries import (
    ArmSummary,
    RowSummary,
    mean_of,
    of_study,
    results_for,
    summarize_row,
)
from experiments.tasks import load_task
from experiments.training.result import Result, read_results

REPORT_FILE, LATEX_FILE = "README.md", "tables.tex"
CAVEATS_FILE = "caveats.md"  # beside results: what is to be known of their data

_COMPARED = ("main", "again", "papers")
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
    summaries = [
        summarize_row(row, load_task(row.task, row.preset).protocol, results_for(row, found))
        for row in rows
    ]
    compared = [compare(study, summaries) for study in _COMPARED]
    try:
        output.mkdir(parents=True, exist_ok=True)
        holes = _holes(summaries, compared, found) | {"caveats": _caveats(folder / CAVEATS_FILE)}
        text = fill(_PROSE.read_text(encoding="utf-8"), holes)
        # Committed reports end in an empty line.
        (output / REPORT_FILE).write_text(f"{text}\n", encoding="utf-8")
        (output / LATEX_FILE).write_text(_latex(summaries), encoding="utf-8")
        _plot(output, summaries, compared)
    except OSError as error:
        raise UsageError(f"cannot write to {str(output)!r} ({error.strerror})") from error
    for line in _verdict_lines(compared):
        print_plain(console, line)
    print_plain(console, f"report: {output / REPORT_FILE}")


def _plot(output: Path, summaries: Sequence[RowSummary], compared: Sequence[Comparison]) -> None:
    from experiments.studies.evidence.plots import plot_comparison, plot_study

    for comparison in compared:
        plot_comparison(output, comparison)
    for study in _PLOTTED:
        plot_study(output, study, of_study(study, summaries))


def _holes(
    summaries: Sequence[RowSummary], compared: Sequence[Comparison], results: Sequence[Result]
) -> dict[str, Any]:
    """Returns what fills ``page.md``; None for what was not run."""
    others = {study: of_study(study, summaries) for study in _OTHERS}
    return {
        "origin": _origin(results),
        "cpu": "`cpu`" if any(result.spec.preset == "cpu" for result in results) else None,
        "sam_equal": f"`{SAM_EQUAL}`" if any(map(_has_sam_equal, summaries)) else None,
        "verdicts": "\n".join(f"- {line}" for line in _verdict_lines(compared)) or None,
        "registered": Table(_REGISTERED, summaries).markdown(),
        "plots": {study: f"{study}.png" if others[study] else None for study in _PLOTTED},
        **{one.study: _comparison(one) if one.rows else None for one in compared},
        **{study: "\n\n".join(map(_section, rows)) or None for study, rows in others.items()},
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
    effects = [one for found in comparison.effects.values() for one in found]
    parts = [
        *([f"![Effects](forest-{study}.png)"] if comparison.effects else []),
        *([f"![Performance profiles](profiles-{study}.png)"] if comparison.profiles else []),
        *([Table(_EFFECTS, effects).markdown()] if effects else []),
    ]
    for summary in comparison.rows:
        name = summary.row.name
        parts.append(f"### {name}\n\n![Curves](curves-{name}.png)")
        parts.append(_arms_table(summary).markdown())
    return "\n\n".join(parts)


def _section(summary: RowSummary) -> str:
    return f"### {summary.row.name}\n\n{_study_table(summary).markdown()}"


def _origin(results: Sequence[Result]) -> str:
    environments = [result.environment for result in results if result.environment]
    if not environments:
        return f"{len(results)} runs, all of which failed."
    dates = sorted(environment["date"][:10] for environment in environments)
    kinds = sorted({environment["device"]["kind"] for environment in environments})
    versions = environments[0]["versions"]
    span = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return (
        f"{len(results)} runs, {span}, on {', '.join(kinds)}; jax {versions['jax']}, optax "
        f"{versions['optax']}."
    )


def _verdict_lines(compared: Sequence[Comparison]) -> Iterator[str]:
    """Counts of better, worse and undecided, by study, reference and horizon."""
    names = {PLAIN: "the plain optimizer", NESTEROV: "Nesterov/NAdam"}
    for comparison in compared:
        for reference, found in comparison.effects.items():
            for arm in dict.fromkeys(one.arm for one in found):
                of_arm = [one for one in found if one.arm == arm]
                yield (
                    f"{arm} against {names[reference]}, {len(of_arm)} {comparison.study} rows: "
                    f"{_counts(one.verdict for one in of_arm)}; by Student's t "
                    f"{_counts(one.student_verdict for one in of_arm)}."
                )


def _counts(verdicts: Iterable[str]) -> str:
    listed = list(verdicts)
    return ", ".join(f"{listed.count(name)} {name}" for name in ("better", "worse", "undecided"))


_REGISTERED = (
    Column("row", lambda summary: summary.row.name),
    Column("study", lambda summary: summary.row.study),
    Column("task", lambda summary: summary.row.task),
    Column("preset", lambda summary: summary.row.preset),
    Column("optimizer", lambda summary: summary.row.optimizer),
    Column("arms", lambda summary: ", ".join(summary.row.arms)),
    Column("seeds", lambda summary: str(len(summary.row.seeds))),
    Column("runs done", lambda summary: f"{summary.done} of {summary.planned}"),
)
_EFFECTS = (
    Column("row", lambda one: one.row),
    Column("arm", lambda one: one.arm),
    Column("against", lambda one: one.reference),
    Column("improvement [%]", lambda one: f"{one.improvement:+.2f}"),
    Column("95 % interval", lambda one: f"[{one.low:+.2f}, {one.high:+.2f}]"),
    Column("verdict", lambda one: one.verdict),
    Column("Student's t", lambda one: one.student_verdict),
)


def _arms_table(summary: RowSummary) -> Table:
    plain = summary.arm(PLAIN)

    def against(arm: ArmSummary) -> str:
        return _effect(effect(summary, arm, plain) if plain and arm is not plain else None)

    def memory(arm: ArmSummary) -> str:
        now, before = arm.step_bytes, plain and plain.step_bytes
        return f"x {now / before:.3f}" if now and before else ""

    columns = (
        Column("arm", lambda arm: arm.arm),
        Column("rate", _rate),
        Column(f"test {summary.metric}", lambda arm: _interval(mean_of(arm.values))),
        Column("against plain [%]", against),
        Column("seeds lost", lambda arm: f"{arm.lost} of {len(arm.results)}"),
        Column(
            f"gradients to {_number(summary.target)}",
            lambda arm: _to_target(arm.gradients_to_target, len(arm.results)),
        ),
        Column("seconds to it", lambda arm: _to_target(arm.seconds_to_target, len(arm.results))),
        Column("ms per step", lambda arm: f"{1000 * arm.seconds_per_step:.1f}"),
        Column("memory of a step", memory),
    )
    return Table(columns, summary.arms)


def _rate(arm: ArmSummary) -> str:
    """Returns the chosen rate, and says if a better one may lie beyond those that were tried."""
    return f"{arm.learning_rate:g}" + ("" if arm.inside else " (not inside)")


def _study_table(summary: RowSummary) -> Table:
    if summary.row.study == "robustness":
        return _robustness_table(summary)
    return _arms_table(summary)


class _ArmAtRates(NamedTuple):
    """A row of the table on robustness."""

    arm: str
    at: Mapping[float, ArmSummary]


def _robustness_table(summary: RowSummary) -> Table:
    rates = sorted({arm.learning_rate for arm in summary.arms})
    columns = (
        Column("arm", lambda row: row.arm),
        *(
            Column(f"rate {rate:g}", lambda row, at=rate: _with_lost(row.at.get(at)))
            for rate in rates
        ),
        Column(
            "mean over log rates",
            lambda row: _interval(mean_of(area_over_rates(list(row.at.values())))),
        ),
    )
    rows = [
        _ArmAtRates(name, {arm.learning_rate: arm for arm in summary.arms if arm.arm == name})
        for name in dict.fromkeys(arm.arm for arm in summary.arms)
    ]
    return Table(columns, rows)


def _with_lost(arm: ArmSummary | None) -> str:
    if arm is None:
        return ""
    lost = f" ({arm.lost} lost)" if arm.lost else ""
    return _interval(mean_of(arm.values)) + lost


def _interval(value: Interval | None) -> str:
    return format_interval(value) if value else "none"


def _effect(found: Effect | None) -> str:
    return f"{found.improvement:+.2f} [{found.low:+.2f}, {found.high:+.2f}]" if found else ""


def _to_target(costs: Mapping[int, float], seeds: int) -> str:
    if not costs:
        return "never"
    interval = mean_of(costs)
    mean = f"{interval.mean:.3g}" if interval else ""
    return mean if len(costs) == seeds else f"{mean} ({len(costs)} of {seeds})"


def _number(value: float | None) -> str:
    return "target" if value is None else f"{value:.4g}"


def _latex(summaries: Sequence[RowSummary]) -> str:
    """Returns the tables of all rows that have results, for ``booktabs``."""
    return "\n".join(
        _study_table(summary).latex(summary.row.name) for summary in summaries if summary.arms
    )
