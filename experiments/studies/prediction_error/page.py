"""The page on prediction errors: tables by predictor and horizon."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Group, RenderableType

from experiments.arms import horizon_label
from experiments.compared import grouped
from experiments.formats import format_interval
from experiments.page import Column, Table
from experiments.statistics import Interval, mean_interval
from experiments.studies.prediction_error.ask import Config, Record
from experiments.studies.prediction_error.figure import draw_errors, over_epochs

FIGURES = {"errors.png": draw_errors}

_CAPTIONS = {
    "relative_error": "relative error of predictions by steps ahead; 1 is no prediction (s=0)",
    "cosine": "cosine of predictions by steps ahead; 1 is the right direction",
}


class _Row(NamedTuple):
    """One arm, all seeds."""

    runs: Sequence[Record]

    def values(self, name: str) -> np.ndarray:
        """``[seeds, epochs, horizons]``."""
        return np.asarray([getattr(run, name) for run in self.runs], float)


def _rows(records: Sequence[Record]) -> list[_Row]:
    groups = grouped(records, lambda run: (run.optimizer, run.predictor, run.s))
    return list(map(_Row, groups.values()))


_ARM = (
    Column("optimizer", lambda row: row.runs[0].optimizer, left=True),
    Column("predictor", lambda row: row.runs[0].predictor, left=True),
    Column("trained with", lambda row: horizon_label(row.runs[0].s), left=True),
)


def _by_horizon(measure: str, records: Sequence[Record], config: Config) -> Table:
    def cell(place: int) -> Callable[[_Row], str]:
        return lambda row: _format(over_epochs(row.values(measure))[:, place])

    columns = [
        Column(f"{horizon} ahead", cell(place)) for place, horizon in enumerate(config.horizons)
    ]
    return Table([*_ARM, *columns], _rows(records))


def _course(records: Sequence[Record], config: Config) -> Table:
    """The first and the last epoch, at the shortest and the longest horizon."""

    def cell(epoch: int, place: int) -> Callable[[_Row], str]:
        return lambda row: _format(row.values("relative_error")[:, epoch, place])

    last = len(config.horizons) - 1
    columns = [
        Column(f"{config.horizons[place]} ahead, {name}", cell(epoch, place))
        for place in dict.fromkeys((0, last))
        for name, epoch in (("first epoch", 0), ("last epoch", -1))
    ]
    metric = Column("validation", lambda row: f"{row.values('validation_metric').mean():.1f}")
    return Table([*_ARM, *columns, metric], _rows(records))


def _format(values: np.ndarray) -> str:
    if not np.isfinite(values).all():
        return "diverged"
    mean, half_width = mean_interval(values)
    # Finer than a thousandth nobody wants to know: three decimals, unless the interval is wider.
    return format_interval(Interval(mean, max(half_width, 5e-4)))


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns the tables for the terminal."""
    return Group(
        *(
            _by_horizon(measure, records, config).terminal(f"{config.task}: {caption}")
            for measure, caption in _CAPTIONS.items()
        )
    )


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    rates = [
        Column("optimizer", lambda row: row[0]),
        Column("learning rate", lambda row: str(row[1])),
    ]
    shown = {
        "relative_error": _by_horizon("relative_error", records, config),
        "cosine": _by_horizon("cosine", records, config),
        "course": _course(records, config),
    }
    return {
        **{name: table.markdown() if records else None for name, table in shown.items()},
        "number_of_seeds": len(config.seeds),
        "rates": Table(rates, list(config.learning_rates.items())).markdown(),
        "seeds": ", ".join(map(str, config.seeds)),
    }
