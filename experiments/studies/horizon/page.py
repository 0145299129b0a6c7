"""The page on the horizon that sets itself: every arm, and it against each fixed one."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import RenderableType

from experiments.compared import grouped
from experiments.formats import format_paired_ratio
from experiments.page import Column, Table
from experiments.statistics import paired_difference
from experiments.studies.horizon.ask import AUTO, FAILED, Config, Record
from experiments.studies.horizon.stable_horizon import MARGIN, MEMORY

FIGURES: Mapping[str, Callable[..., None]] = {}


class _Row(NamedTuple):
    """One arm at one learning rate, all seeds, and beside it the arm that sets itself."""

    runs: Sequence[Record]
    auto: Sequence[Record]

    @property
    def rate(self) -> str:
        return f"{self.runs[0].learning_rate:g}"


def _rows(records: Sequence[Record]) -> list[_Row]:
    groups = grouped(records, lambda run: (run.learning_rate, run.arm))
    return [_Row(runs, groups.get((rate, AUTO), [])) for (rate, _), runs in groups.items()]


def _median(name: str) -> Callable[[_Row], str]:
    def cell(row: _Row) -> str:
        values = [getattr(run, name) for run in row.runs]
        return f"{np.median([math.inf if value is None else value for value in values]):.4g}"

    return cell


def _against(row: _Row) -> str:
    """The ratio of training losses, paired by seed; nothing if a seed has none."""
    if row.runs[0].arm == AUTO or len(row.auto) != len(row.runs):
        return ""
    losses = [[run.train_loss for run in side] for side in (row.auto, row.runs)]
    if any(loss is None for side in losses for loss in side):
        return ""
    return format_paired_ratio(
        paired_difference(*(np.log(np.array(side, float)) for side in losses))
    )


def _quartiles(row: _Row) -> str:
    means = np.mean([run.s_quartiles for run in row.runs], axis=0)
    return " ".join(f"{s:.2f}" for s in means)


_COLUMNS = (
    Column("γ", lambda row: row.rate),
    Column("arm", lambda row: row.runs[0].arm, left=True),
    Column("failed", lambda row: f"{sum(run.failed for run in row.runs)} of {len(row.runs)}"),
    Column("early loss", _median("early_loss")),
    Column("train loss", _median("train_loss")),
    Column("held-out loss", _median("held_out_loss")),
    Column("auto / this: train loss", _against),
    Column("s, quartiles", _quartiles),
)


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns the table for the terminal."""
    title = "Medians over seeds; * where the 95 % interval excludes 1"
    return Table(_COLUMNS, _rows(records)).terminal(title, section=lambda row: row.rate)


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    return {
        "table": Table(_COLUMNS, _rows(records)).markdown(),
        "seeds": ", ".join(map(str, config.seeds)),
        "memory": MEMORY,
        "margin": MARGIN,
        "failed": FAILED,
    }
