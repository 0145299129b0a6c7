"""The report: a table on the terminal and ``report.md``."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from experiments.bench.units import format_count
from experiments.folder import META_FILE, RUNS_FILE
from experiments.formats import format_difference, format_interval
from experiments.page import TABLE_STYLE, markdown_table
from experiments.predict_gradients.config import ARMS, CURVES_FILE, PredictConfig
from experiments.predict_gradients.records import PredictRecord
from experiments.predict_gradients.summary import ArmSummary, Reached, summarize, target_accuracy
from experiments.provenance import cautions, describe_origin
from experiments.runs import shortfall
from experiments.statistics import CONFIDENCE

_LEGEND = (
    f"mean ± {CONFIDENCE:.0%} interval over seeds; Δ: paired difference to the best plain batch "
    "size, * where its interval excludes zero"
)


def terminal_report(records: Sequence[PredictRecord], config: PredictConfig) -> RenderableType:
    """Returns the table for the terminal."""
    target = target_accuracy(records, config.target)
    table = Table(title=_LEGEND, **TABLE_STYLE)
    for title in _header(target):
        table.add_column(title, no_wrap=title == "arm")
    for summary in summarize(records, target):
        table.add_row(*_cells(summary), style="bold" if summary.is_reference else "")
    return table


def markdown_report(
    records: Sequence[PredictRecord], config: PredictConfig, meta: dict[str, Any]
) -> str:
    """Returns the text of ``report.md``."""
    return "".join(f"{line}\n" for line in _lines(records, config, meta))


def _lines(
    records: Sequence[PredictRecord], config: PredictConfig, meta: dict[str, Any]
) -> Iterator[str]:
    yield f"# Gradient prediction on {config.problem}"
    yield ""
    yield (
        f"Adam, {len(config.seeds)} seeds, {config.budget:g} {config.clock} for each arm "
        f"(compilation and evaluation not counted), {_noise(config)}. Arms of a seed take turns, "
        "so that all see the same machine. Learning rates per arm, see the table."
    )
    yield ""
    yield f"Made {describe_origin(meta)}"
    yield from (f"**Caution:** {caution}" for caution in cautions(meta, timed=True))
    if lost := shortfall("seeds", meta):
        yield f"**Caution:** {lost}"
    yield ""
    if records:
        target = target_accuracy(records, config.target)
        yield f"![Accuracy by time and by operations, alignment, control fraction]({CURVES_FILE})"
        yield ""
        yield _LEGEND[0].upper() + _LEGEND[1:] + "."
        yield ""
        summaries = summarize(records, target)
        yield from markdown_table(_header(target), map(_cells, summaries))
        yield ""
        yield from markdown_table(_COST_HEADER, filter(None, map(_cost_cells, summaries)))
        yield ""
        yield (
            "c is the cost of an example that is only predicted over that of one with forward and "
            "backward pass, its share of the fits included. An evenly drawn control part gains "
            "variance at equal cost only where ρ² > c."
        )
        yield ""
    yield from _notes(config)


def _noise(config: PredictConfig) -> str:
    share = config.label_noise
    return f"{share:.0%} of the training labels random, anew each time" if share else "clean labels"


def _header(target: float) -> list[str]:
    return [
        "arm",
        "rate",
        "accuracy at equal time [%]",
        "Δ",
        "Δ loss",
        "accuracy at equal flops [%]",
        "Δ flops",
        f"seconds to {target:.1f} %",
        f"flops to {target:.1f} %",
        "test accuracy [%]",
    ]


def _cells(summary: ArmSummary) -> list[str]:
    compared = not summary.is_reference
    return [
        summary.arm,
        f"{summary.records[0].learning_rate:g}",
        format_interval(summary.at_equal_time),
        format_difference(summary.time_difference) if compared else "",
        format_difference(summary.loss_difference) if compared else "",
        format_interval(summary.at_equal_flops),
        format_difference(summary.flops_difference) if compared else "",
        _format_reached(summary.seconds_to_target),
        _format_flops(summary.flops_to_target),
        format_interval(summary.test_accuracy),
    ]


_COST_HEADER = ("arm", "c by flops", "c by seconds", "ρ early", "ρ late", "f early", "f late")


def _cost_cells(summary: ArmSummary) -> list[str] | None:
    first = summary.records[0]
    if first.cost_ratio_flops is None or first.cost_ratio_seconds is None:
        return None
    ends = [_ends(summary.records, name) for name in ("rho", "control_fraction")]
    numbers = [first.cost_ratio_flops, first.cost_ratio_seconds, *ends[0], *ends[1]]
    return [summary.arm, *("" if n is None else f"{n:.2f}" for n in numbers)]


def _ends(records: Sequence[PredictRecord], name: str) -> list[float | None]:
    """Means over the seeds at the first checkpoint after the start, and at the last."""
    ends = []
    for place in (1, -1):
        values = [getattr(record, name)[place] for record in records]
        known = [value for value in values if value is not None]
        ends.append(sum(known) / len(known) if known else None)
    return ends


def _format_reached(reached: Reached) -> str:
    text = format_interval(reached.interval) if reached.interval else ""
    return _with_shortfall(text, reached)


def _format_flops(reached: Reached) -> str:
    if not reached.interval:
        return _with_shortfall("", reached)
    mean, half_width = reached.interval
    text = format_count(mean)
    if reached.interval.is_defined:
        text += f" ± {format_count(half_width)}"
    return _with_shortfall(text, reached)


def _with_shortfall(text: str, reached: Reached) -> str:
    if reached.present == reached.seeds:
        return text
    return f"{text} ({reached.present} of {reached.seeds} seeds)".strip()


def _notes(config: PredictConfig) -> Iterator[str]:
    yield "Arms:"
    yield ""
    kinds = dict.fromkeys(arm.kind for arm in config.arms)
    yield from (f"- `{kind}`: {ARMS[kind].summary}." for kind in kinds)
    yield ""
    yield (
        f"Predictor: neural tangent kernel, {config.fit_examples} examples, rank {config.rank}, "
        f"refitted every {config.refit_interval} steps. `auto` weighs variance against "
        f"{config.clock}. Raw numbers: {RUNS_FILE}, {META_FILE}."
    )
