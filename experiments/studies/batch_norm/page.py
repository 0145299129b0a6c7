"""The page on BatchNorm statistics: what recalibration changes, arm by arm."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import RenderableType

from experiments.arms import horizon_label
from experiments.compared import grouped
from experiments.formats import format_difference, format_interval
from experiments.page import Column, Table
from experiments.statistics import mean_interval, paired_difference
from experiments.studies.batch_norm.ask import RATES, Config, Record

FIGURES: Mapping[str, Callable[..., None]] = {}


class _Row(NamedTuple):
    """One arm after one epoch, all seeds."""

    runs: Sequence[Record]
    epoch: int

    def values(self, name: str) -> np.ndarray:
        return np.array([getattr(run, name)[self.epoch] for run in self.runs], float)


def _rows(records: Sequence[Record]) -> Iterator[_Row]:
    """The first and the last epoch of each arm."""
    for runs in grouped(records, lambda run: (run.optimizer, run.momentum, run.s)).values():
        for epoch in dict.fromkeys((0, len(runs[0].running_loss) - 1)):
            yield _Row(runs, epoch)


def _running(name: str) -> Callable[[_Row], str]:
    return lambda row: format_interval(mean_interval(row.values(f"running_{name}")))


def _recalibrated(name: str) -> Callable[[_Row], str]:
    after, before = f"recalibrated_{name}", f"running_{name}"
    return lambda row: format_difference(paired_difference(row.values(after), row.values(before)))


_COLUMNS = (
    Column("optimizer", lambda row: row.runs[0].optimizer, left=True),
    Column("momentum", lambda row: f"{row.runs[0].momentum:g}", left=True),
    Column("trained with", lambda row: horizon_label(row.runs[0].s), left=True),
    Column("epoch", lambda row: str(row.epoch + 1), left=True),
    Column("accuracy, running", _running("accuracy")),
    Column("Δ recalibrated", _recalibrated("accuracy")),
    Column("loss, running", _running("loss")),
    Column("Δ recalibrated", _recalibrated("loss")),
)


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns the table for the terminal."""
    title = "Evaluation at θ; Δ: statistics measured anew at θ"
    return Table(_COLUMNS, list(_rows(records))).terminal(title)


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    return {
        "seeds": len(config.seeds),
        "table": Table(_COLUMNS, list(_rows(records))).markdown(),
        "rates": ", ".join(f"{name} {RATES[name]:g}" for name in config.optimizers),
    }
