"""``report``: a folder of results turned into README.md, tables.tex and plots."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from experiments.arms import NESTEROV, PLAIN
from experiments.errors import UsageError
from experiments.evidence.analysis import (
    ArmSummary,
    Comparison,
    Effect,
    RowSummary,
    area_over_rates,
    compare,
    effect,
    mean_of,
    of_study,
    summarize_row,
)
from experiments.evidence.rows import Row
from experiments.formats import format_interval
from experiments.page import markdown_table, print_plain
from experiments.statistics import Interval
from experiments.tasks import load_task
from experiments.training.result import Result, read_results

REPORT_FILE, LATEX_FILE = "README.md", "tables.tex"
Table = tuple[Sequence[str], Sequence[Sequence[str]]]

_COMPARISON_TITLES: Mapping[str, str] = {
    "main": "Prediction against the plain optimizer and against Nesterov's momentum",
    "wider": "The same with wider grids of learning rates",
}
_STUDY_TITLES: Mapping[str, str] = {
    "horizon": "How many steps to predict",
    "decay": "Weight decay, with and without predicting it",
    "robustness": "Robustness to the learning rate",
    "predictors": "Predictors",
    "others": "Optimizers that the papers only mention, and others",
}
_PLOTTED_STUDIES = ("horizon", "robustness")

_DATA_NOTE = (
    "CIFAR-10 went through lossy JPEG here, so accuracies are not comparable with published ones. "
    "PTB is reduced: training text is the official *test* file (82,430 tokens), validation and "
    "test are the two halves of the official validation file; perplexities are not comparable "
    "with published ones. The `cpu` presets are small versions of the papers' networks on parts "
    "of the training sets: they show what prediction does in short training, not what it does in "
    "200 epochs on a GPU."
)


def write_report(folder: Path, output: Path, rows: Sequence[Row]) -> int:
    """Reads all ``*.jsonl`` files of a folder and writes what they say.

    Args:
        folder: where the results are.
        output: where the report goes.
        rows: the registered table.

    Returns:
        0.

    Raises:
        UsageError: there are no results, or the report cannot be written.
    """
    files = sorted(folder.glob("*.jsonl"))
    found, complaints = read_results(files)
    console = Console(stderr=True)
    for complaint in complaints:
        print_plain(console, complaint)
    if not found:
        raise UsageError(f"no results in {str(folder)!r}; 'python -m experiments sweep' makes some")
    results = {result.spec.key: result for result in found}
    summaries = [
        summarize_row(row, load_task(row.task, row.preset).protocol, results) for row in rows
    ]
    compared = [compare(study, summaries) for study in _COMPARISON_TITLES]
    try:
        output.mkdir(parents=True, exist_ok=True)
        text = "\n".join(_markdown(summaries, compared, found))
        (output / REPORT_FILE).write_text(f"{text}\n", encoding="utf-8")
        (output / LATEX_FILE).write_text(_latex(summaries), encoding="utf-8")
        from experiments.evidence.plots import plot_comparison, plot_study

        for comparison in compared:
            plot_comparison(output, comparison)
        for study in _PLOTTED_STUDIES:
            plot_study(output, study, of_study(study, summaries))
    except OSError as error:
        raise UsageError(f"cannot write to {str(output)!r} ({error.strerror})") from error
    for line in _verdict_lines(compared):
        print_plain(console, line)
    print_plain(console, f"report: {output / REPORT_FILE}")
    return 0


def _markdown(
    summaries: Sequence[RowSummary], compared: Sequence[Comparison], results: Sequence[Result]
) -> Iterator[str]:
    yield "# Evidence"
    yield ""
    yield "Made by `python -m experiments report` from the `*.jsonl` files beside it. " + _origin(
        results
    )
    yield ""
    yield _DATA_NOTE
    yield ""
    yield "## In short"
    yield ""
    for line in _verdict_lines(compared):
        yield f"- {line}"
    yield ""
    yield from _section("Registered rows", "", _registered_table(summaries))
    yield _PROTOCOL_NOTE
    yield ""
    for comparison in compared:
        if comparison.rows:
            yield from _comparison(comparison)
    for study, title in _STUDY_TITLES.items():
        rows = of_study(study, summaries)
        if rows:
            yield f"## {title}"
            yield ""
            for summary in rows:
                yield from _section(summary.row.name, "", _study_table(summary), level=3)
            if study in _PLOTTED_STUDIES:
                yield f"![{title}]({study}.png)"
                yield ""


_PROTOCOL_NOTE = (
    "Every arm chooses its learning rate from the same number of rates, on validation, with a seed "
    "that is not reported. The test metric is read at the epoch that is best on validation. "
    "Improvements are seed by seed, in percent of the reference's mean, positive for better "
    "whichever way the metric goes, with 95 % intervals by paired bootstrap over seeds. With five "
    "seeds such intervals are somewhat too short; the verdict by Student's t stands beside. "
    "`sam-equal` is SAM with half of the epochs, that is, with as many gradients as the others. "
    "The target is the median of the plain arm's best validation metric over seeds; gradients to "
    "it count epochs whole. A step takes what it took on average in the fastest seed, for the "
    "others were held up by whatever else the machine did; still, compare gradients rather than "
    "seconds. `(highest)` beside a rate: it is the end of the grid, a better one may lie beyond."
)


def _origin(results: Sequence[Result]) -> str:
    environments = [result.environment for result in results if result.environment]
    dates = sorted(environment["date"][:10] for environment in environments)
    kinds = sorted({environment["device"]["kind"] for environment in environments})
    versions = environments[0]["versions"]
    span = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return (
        f"{len(results)} runs, {span}, on {', '.join(kinds)}; jax {versions['jax']}, optax "
        f"{versions['optax']}."
    )


def _section(title: str, text: str, table: Table, level: int = 2) -> Iterator[str]:
    yield f"{'#' * level} {title}"
    yield ""
    if text:
        yield text
        yield ""
    yield from markdown_table(*table)
    yield ""


def _registered_table(summaries: Sequence[RowSummary]) -> Table:
    header = ("row", "study", "task", "preset", "optimizer", "arms", "seeds", "runs done")
    return header, [
        (
            summary.row.name,
            summary.row.study,
            summary.row.task,
            summary.row.preset,
            summary.row.optimizer,
            ", ".join(summary.row.arms),
            str(len(summary.row.seeds)),
            f"{summary.done} of {summary.planned}",
        )
        for summary in summaries
    ]


def _comparison(comparison: Comparison) -> Iterator[str]:
    yield f"## {_COMPARISON_TITLES[comparison.study]}"
    yield ""
    yield f"![Effects](forest-{comparison.study}.png)"
    yield ""
    yield f"![Performance profiles](profiles-{comparison.study}.png)"
    yield ""
    yield from markdown_table(*_effects_table(comparison))
    yield ""
    for summary in comparison.rows:
        name = summary.row.name
        yield from _section(name, f"![Curves](curves-{name}.png)", _arms_table(summary), level=3)


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


def _effects_table(comparison: Comparison) -> Table:
    header = ("row", "arm", "against", "improvement [%]", "95 % interval", "verdict", "Student's t")
    return header, [
        (
            one.row,
            one.arm,
            one.reference,
            f"{one.improvement:+.2f}",
            f"[{one.low:+.2f}, {one.high:+.2f}]",
            one.verdict,
            one.student_verdict,
        )
        for found in comparison.effects.values()
        for one in found
    ]


def _arms_table(summary: RowSummary) -> Table:
    plain = summary.arm(PLAIN)
    header = (
        "arm",
        "rate",
        f"test {summary.metric}",
        "against plain [%]",
        "seeds lost",
        f"gradients to {_number(summary.target)}",
        "seconds to it",
        "ms per step",
        "temporary memory",
    )
    return header, [_arm_cells(summary, arm, plain) for arm in summary.arms]


def _arm_cells(summary: RowSummary, arm: ArmSummary, plain: ArmSummary | None) -> Sequence[str]:
    against = effect(summary, arm, plain) if plain and arm is not plain else None
    bytes_now, bytes_plain = arm.temporary_bytes, plain and plain.temporary_bytes
    return (
        arm.arm,
        _rate(summary, arm),
        _interval(mean_of(arm.values)),
        _effect(against),
        f"{arm.lost} of {len(arm.results)}",
        _to_target(arm.gradients_to_target, len(arm.results)),
        _to_target(arm.seconds_to_target, len(arm.results)),
        f"{1000 * arm.seconds_per_step:.1f}",
        f"x {bytes_now / bytes_plain:.3f}" if bytes_now and bytes_plain else "",
    )


def _rate(summary: RowSummary, arm: ArmSummary) -> str:
    """Returns the chosen rate, and says if it is an end of a grid: a better one may lie beyond."""
    ends = {min(summary.rates): "lowest", max(summary.rates): "highest"}
    end = ends.get(arm.learning_rate) if len(summary.rates) > 1 else None
    return f"{arm.learning_rate:g} ({end})" if end else f"{arm.learning_rate:g}"


def _study_table(summary: RowSummary) -> Table:
    if summary.row.every_rate:
        return _robustness_table(summary)
    return _arms_table(summary)


def _robustness_table(summary: RowSummary) -> Table:
    rates = sorted({arm.learning_rate for arm in summary.arms})
    header = ("arm", *(f"rate {rate:g}" for rate in rates), "mean over log rates")
    cells = []
    for name in dict.fromkeys(arm.arm for arm in summary.arms):
        of_arm = {arm.learning_rate: arm for arm in summary.arms if arm.arm == name}
        cells.append(
            (
                name,
                *(_with_lost(of_arm[rate]) if rate in of_arm else "" for rate in rates),
                _interval(mean_of(area_over_rates(list(of_arm.values())))),
            )
        )
    return header, cells


def _with_lost(arm: ArmSummary) -> str:
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
    parts = []
    for summary in summaries:
        if summary.arms:
            parts.append(_latex_table(summary.row.name, *_study_table(summary)))
    return "\n".join(parts)


def _latex_table(title: str, header: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    lines = [
        rf"% {title}",
        rf"\begin{{tabular}}{{{'l' + 'r' * (len(header) - 1)}}}",
        r"\toprule",
        _latex_line(header),
        r"\midrule",
        *(_latex_line(line) for line in cells),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


_LATEX_ESCAPES = {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "±": r"$\pm$", "µ": r"$\mu$"}


def _latex_line(cells: Sequence[str]) -> str:
    escaped = ("".join(_LATEX_ESCAPES.get(letter, letter) for letter in cell) for cell in cells)
    return " & ".join(escaped) + r" \\"
