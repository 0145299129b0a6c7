"""The page on gradient prediction: every arm against the best plain batch size."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from experiments.formats import (
    format_count,
    format_difference,
    format_interval,
    format_optional,
)
from experiments.page import Column, Table
from experiments.provenance import cautions
from experiments.statistics import CONFIDENCE, Interval
from experiments.studies.predict_gradients.ask import ARMS, Config, Record
from experiments.studies.predict_gradients.figure import draw_curves
from experiments.studies.predict_gradients.summary import (
    ArmSummary,
    Reached,
    summarize,
    target_accuracy,
)

FIGURES = {"curves.png": draw_curves}

_LEGEND = (
    f"mean ± {CONFIDENCE:.0%} interval over seeds; Δ: paired difference to the best plain batch "
    "size, * where its interval excludes zero"
)


def _difference(found: Callable[[ArmSummary], Interval]) -> Callable[[ArmSummary], str]:
    return lambda row: "" if row.is_reference else format_difference(found(row))


def _arms(records: Sequence[Record], config: Config) -> Table:
    target = target_accuracy(records, config.target)
    columns = {
        "arm": lambda row: row.arm,
        "rate": lambda row: f"{row.records[0].learning_rate:g}",
        "accuracy at equal time [%]": lambda row: format_interval(row.at_equal_time),
        "Δ": _difference(lambda row: row.time_difference),
        "Δ loss": _difference(lambda row: row.loss_difference),
        "accuracy at equal flops [%]": lambda row: format_interval(row.at_equal_flops),
        "Δ flops": _difference(lambda row: row.flops_difference),
        f"seconds to {target:.1f} %": lambda row: _reached(row.seconds_to_target, format_interval),
        f"flops to {target:.1f} %": lambda row: _reached(row.flops_to_target, _format_flops),
        "test accuracy [%]": lambda row: format_interval(row.test_accuracy),
    }
    return Table(
        [Column(title, cell, left=True, no_wrap=title == "arm") for title, cell in columns.items()],
        summarize(records, target),
    )


def _reached(reached: Reached, write: Callable[[Interval], str]) -> str:
    text = write(reached.interval) if reached.interval else ""
    if reached.present == reached.seeds:
        return text
    return f"{text} ({reached.present} of {reached.seeds} seeds)".strip()


def _format_flops(interval: Interval) -> str:
    text = format_count(interval.mean)
    return f"{text} ± {format_count(interval.half_width)}" if interval.is_defined else text


def _costs(records: Sequence[Record], config: Config) -> Table:
    """What predicting costs and is worth, of the arms that have a cost ratio by both clocks."""

    def end(name: str, place: int) -> Callable[[ArmSummary], str]:
        return lambda row: format_optional(_mean_at(row.records, name, place), ".2f")

    columns = {
        "arm": lambda row: row.arm,
        "c by flops": lambda row: format_optional(row.records[0].cost_ratio_flops, ".2f"),
        "c by seconds": lambda row: format_optional(row.records[0].cost_ratio_seconds, ".2f"),
        # The first checkpoint is before training: nothing is known there.
        "ρ early": end("rho", 1),
        "ρ late": end("rho", -1),
        "f early": end("control_fraction", 1),
        "f late": end("control_fraction", -1),
    }
    rows = [
        row
        for row in summarize(records, target_accuracy(records, config.target))
        if None not in (row.records[0].cost_ratio_flops, row.records[0].cost_ratio_seconds)
    ]
    return Table([Column(title, cell) for title, cell in columns.items()], rows)


def _mean_at(records: Sequence[Record], name: str, place: int) -> float | None:
    """The mean over the seeds that have a value."""
    values = [getattr(record, name)[place] for record in records]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns the table for the terminal."""

    def style(row: ArmSummary) -> str:
        return "bold" if row.is_reference else ""

    return _arms(records, config).terminal(_LEGEND, style=style)


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    kinds = dict.fromkeys(arm.kind for arm in config.arms)
    noise = f"{config.label_noise:.0%} of the training labels random, anew each time"
    return {
        "seeds": len(config.seeds),
        "noise": noise if config.label_noise else "clean labels",
        "cautions": "\n\n".join(f"**Caution:** {text}" for text in cautions(meta, timed=True))
        or None,
        "legend": _LEGEND[0].upper() + _LEGEND[1:] if records else None,
        "c": "c" if records else None,
        "arms": _arms(records, config).markdown() if records else None,
        "costs": _costs(records, config).markdown() if records else None,
        "kinds": "\n".join(f"- `{kind}`: {ARMS[kind].summary}." for kind in kinds),
    }
