"""The page on the moments: each arm against plain, at the beginning, in the middle, at the end."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Group, RenderableType

from experiments.arms import horizon_label
from experiments.compared import grouped
from experiments.formats import format_difference, format_interval, format_paired_ratio
from experiments.page import Column, Table
from experiments.statistics import mean_interval, paired_difference
from experiments.studies.moments.ask import (
    B1,
    B2,
    BESIDE_PLAIN,
    ITSELF,
    LAG,
    MEASURED,
    RATIO,
    Config,
    Quantity,
    Record,
)
from experiments.studies.moments.figure import draw_moments, over_seeds

FIGURES = {"moments.png": draw_moments}

_UNKNOWN = "–"


class _Row(NamedTuple):
    """One arm in one epoch, all seeds, and beside it plain at the same rate."""

    runs: Sequence[Record]
    plain: Sequence[Record]
    epoch: int

    @property
    def training(self) -> str:
        return f"{self.runs[0].optimizer}, γ = {self.runs[0].learning_rate:g}"

    @property
    def is_compared(self) -> bool:
        """Whether plain is another arm, of which every seed is there."""
        return bool(self.runs[0].s) and len(self.plain) == len(self.runs)


def _rows(records: Sequence[Record]) -> list[_Row]:
    trainings = grouped(records, lambda run: (run.optimizer, run.learning_rate))
    return [
        _Row(arm, arms.get(0.0, []), epoch)
        for arms in (grouped(runs, lambda run: run.s) for runs in trainings.values())
        for epoch in _shown_epochs(arms)
        for arm in arms.values()
    ]


def _shown_epochs(arms: Mapping[float, Sequence[Record]]) -> list[int]:
    last = min(len(run.loss) for runs in arms.values() for run in runs) - 1
    return sorted({0, last // 2, last})


def _column(name: str, quantity: Quantity) -> Column:
    def values(runs: Sequence[Record], row: _Row) -> np.ndarray:
        return over_seeds(runs, name, quantity)[:, row.epoch]

    def cell(row: _Row) -> str:
        plain = values(row.plain, row) if row.is_compared else None
        return _format(quantity.judged, values(row.runs, row), plain)

    return Column(quantity.symbol, cell)


def _format(judged: str, values: np.ndarray, plain: np.ndarray | None) -> str:
    """An arm in one epoch, against plain if that is given; dropped seeds would flatter the arm."""
    if not np.isfinite(values).all() or not (plain is None or np.isfinite(plain).all()):
        return _UNKNOWN
    if judged == ITSELF:
        return format_interval(mean_interval(values))
    if plain is None:
        mean = values.mean()
        return f"{np.exp(mean) if judged == RATIO else mean:.3g}"
    compared = paired_difference(values, plain)
    return format_paired_ratio(compared) if judged == RATIO else format_difference(compared)


_ARM = (
    Column("trained with", lambda row: row.training, left=True),
    Column("epoch", lambda row: str(row.epoch + 1)),
    Column("arm", lambda row: horizon_label(row.runs[0].s), left=True),
)


def _measured(records: Sequence[Record]) -> Table:
    return Table([*_ARM, *(_column(*item) for item in MEASURED.items())], _rows(records))


def _beside_plain(records: Sequence[Record]) -> Table:
    rows = [row for row in _rows(records) if row.runs[0].s]
    return Table([*_ARM, *(_column(*item) for item in BESIDE_PLAIN.items())], rows)


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns the tables for the terminal."""
    plain = horizon_label(0.0)
    title = (
        f"{plain} as it is; the others against it; * where the 95 % interval excludes no effect"
        if 0.0 in config.horizons
        else f"As it is; {plain} is no arm"
    )
    shown = {
        title: _measured(records),
        "Beside plain at the same seed and step": _beside_plain(records),
    }
    return Group(
        *(
            table.terminal(title, section=lambda row: (row.training, row.epoch))
            for title, table in shown.items()
            if table.rows
        )
    )


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    beside, plain = _beside_plain(records), horizon_label(0.0)
    compared = 0.0 in config.horizons
    return {
        "plain": plain if compared else None,
        "alone": None if compared else f"All rows show values: {plain} is no arm.",
        "measured": _measured(records).markdown() if records else None,
        "beside_plain": beside.markdown() if beside.rows else None,
        "number_of_seeds": len(config.seeds),
        "seeds": ", ".join(map(str, config.seeds)),
        "factors": " and ".join(f"{factor:g}" for factor in config.factors),
        "rates": ", ".join(f"{name} {rate:g}" for name, rate in config.learning_rates.items()),
        "lag": LAG,
        "unknown": _UNKNOWN,
        "b1": B1,
        "b2": B2,
    }
