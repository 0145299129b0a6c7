"""The tables of the report."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from experiments.arms import PLAIN
from experiments.formats import format_bytes, format_interval
from experiments.page import Column, Table
from experiments.statistics import Interval
from experiments.studies.evidence.effects import (
    Effect,
    area_effects,
    area_over_rates,
    effects_in,
)
from experiments.studies.evidence.summaries import ArmSummary, RowSummary, mean_of

REGISTERED = (
    Column("row", lambda summary: summary.row.name),
    Column("study", lambda summary: summary.row.study),
    Column("task", lambda summary: summary.row.task),
    Column("preset", lambda summary: summary.row.preset),
    Column("optimizer", lambda summary: summary.row.optimizer),
    Column("arms", lambda summary: ", ".join(summary.row.arms)),
    Column("seeds", lambda summary: str(len(summary.row.seeds))),
    Column("tuned by", lambda summary: _tuned_by(summary)),
    Column("runs done", lambda summary: f"{summary.done} of {summary.planned}"),
    Column("data", lambda summary: f"`{summary.data}`" if summary.data else ""),
)
EFFECTS = (
    Column("row", lambda one: one.row),
    Column("arm", lambda one: one.arm),
    Column("against", lambda one: one.reference),
    Column("improvement [%]", lambda one: percent(one.improvement)),
    Column("p, by Holm", lambda one: f"{one.p_value:.2g}"),
    Column("verdict", lambda one: one.verdict),
)


def percent(interval: Interval) -> str:
    """Returns a change to a hundredth of a percent, without a minus zero."""
    mean, half_width = (round(number, 2) + 0.0 for number in interval)
    return f"{mean:+.2f} ± {half_width:.2f}"


def study_table(summary: RowSummary, adjusted: bool = True) -> Table:
    """Returns the table of a row.

    Args:
        summary: the row.
        adjusted: whether its effects against the plain arm are a family of their own, and have
            their p-values here; not where they are part of a table over many rows.
    """
    if summary.row.learning_rates and len(summary.row.learning_rates) > 1:
        return _robustness_table(summary)
    return _arms_table(summary, adjusted)


class Repeated(NamedTuple):
    """A row and the row that has the same with other seeds."""

    first: RowSummary
    again: RowSummary


def repeated_table(rows: Repeated) -> Table:
    """Returns what a row and its repetition say of each arm."""
    effects = [{one.arm: one for one in effects_in(summary)} for summary in rows]

    def columns(place: int, name: str) -> list[Column]:
        summary = rows[place]

        def of(arm: str) -> ArmSummary | None:
            return summary.arm(arm)

        return [
            Column(f"rate{name}", lambda arm: _rate(found) if (found := of(arm)) else ""),
            Column(
                f"test {summary.metric}{name}",
                lambda arm: _interval(mean_of(found.values)) if (found := of(arm)) else "",
            ),
            Column(
                f"against plain [%]{name}",
                lambda arm: _improvement(effects[place].get(arm)),
            ),
        ]

    listed = [Column("arm", str), *columns(0, ""), *columns(1, ", again")]
    return Table(listed, rows.first.row.arms)


def _arms_table(summary: RowSummary, adjusted: bool) -> Table:
    plain = summary.arm(PLAIN)
    effects = {one.arm: one for one in effects_in(summary)}

    def spent(arm: ArmSummary) -> str:
        mean, reached = mean_of(arm.gradients_spent), len(arm.reached)
        if mean is None:
            return ""
        if reached == len(arm.results):
            return f"{mean.mean:.3g}"
        return f"≥ {mean.mean:.3g} ({reached} of {len(arm.results)})"

    def memory(arm: ArmSummary) -> str:
        now, before = arm.step_bytes, plain and plain.step_bytes
        return f"{format_bytes(now)}, x {now / before:.3f}" if now and before else ""

    columns = [
        Column("arm", lambda arm: arm.arm),
        Column("rate", _rate),
        Column(f"test {summary.metric}", lambda arm: _interval(mean_of(arm.values))),
        Column("against plain [%]", lambda arm: _improvement(effects.get(arm.arm))),
        *([_p_column(lambda arm: effects.get(arm.arm))] if adjusted else []),
        Column("seeds lost", lambda arm: f"{arm.lost} of {len(arm.results)}"),
        Column(f"gradients to {_target(summary.target)}", spent),
        Column("memory of a step", memory),
    ]
    return Table(columns, summary.arms)


class _ArmAtRates(NamedTuple):
    """A row of the table on robustness."""

    arm: str
    at: Mapping[float, ArmSummary]


def _robustness_table(summary: RowSummary) -> Table:
    rates = sorted({arm.learning_rate for arm in summary.arms})
    effects = {one.arm: one for one in area_effects(summary)}
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
        Column("against plain [%]", lambda row: _improvement(effects.get(row.arm))),
        _p_column(lambda row: effects.get(row.arm)),
    )
    rows = [
        _ArmAtRates(name, {arm.learning_rate: arm for arm in summary.arms if arm.arm == name})
        for name in dict.fromkeys(arm.arm for arm in summary.arms)
    ]
    return Table(columns, rows)


def _p_column(effect_of: Callable[[Any], Effect | None]) -> Column:
    def cell(row: Any) -> str:
        found = effect_of(row)
        return f"{found.p_value:.2g}" if found else ""

    return Column("p, by Holm", cell)


def _tuned_by(summary: RowSummary) -> str:
    row = summary.row
    return "every rate" if row.learning_rates else f"{len(row.tuning_seeds)} seeds"


def _rate(arm: ArmSummary) -> str:
    """Returns the chosen rate, and says if a better one may lie beyond those that were tried."""
    return f"{arm.learning_rate:g}" + ("" if arm.inside else " (not inside)")


def _with_lost(arm: ArmSummary | None) -> str:
    if arm is None:
        return ""
    lost = f" ({arm.lost} lost)" if arm.lost else ""
    return _interval(mean_of(arm.values)) + lost


def _interval(value: Interval | None) -> str:
    return format_interval(value) if value else "none"


def _improvement(found: Effect | None) -> str:
    return percent(found.improvement) if found else ""


def _target(value: float | None) -> str:
    return "target" if value is None else f"{value:.4g}"
