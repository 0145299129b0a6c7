"""The page on batch sizes: losses by size, useful batches, and what is tested."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType

from experiments.arms import PLAIN
from experiments.formats import format_interval
from experiments.page import Column, Table, shortfall
from experiments.statistics import (
    CONFIDENCE,
    Interval,
    mean_interval,
    paired_difference,
)
from experiments.studies.batch_size.ask import WORSE, Config, Record
from experiments.studies.batch_size.figure import draw_losses
from experiments.studies.batch_size.useful import (
    best_is_inside,
    losses,
    reported,
    target,
    useful_batches,
    verdicts,
)
from experiments.tested import verdict_columns

FIGURES = {"loss.png": draw_losses}

_LOSSES = "Mean losses"
_RATIOS = (
    "Of plain the mean of its losses, of the others the geometric mean of their ratios to plain at "
    "the same seed"
)


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    shown = verdicts(records, config)
    return {
        "reached": _reached(records, config).markdown() if records else None,
        "shown": _RATIOS if PLAIN in config.arms else _LOSSES,
        "metric": _metric(records, config).markdown() if records else None,
        "useful": _useful(records, config).markdown() if useful_batches(records, config) else None,
        "verdicts": _tested(records, config).markdown() if shown else None,
        "outside": _outside(records),
        "target": _target(records, config),
        "worse": f"{WORSE - 1:.0%}",
        "smallest": config.batch_sizes[0],
        "tested_seeds": len(config.seeds) if shown else None,
        "first_seed": config.seeds[0],
        "last_seed": config.seeds[-1],
        "tuning_seeds": ", ".join(map(str, config.tuning_seeds)),
        "confidence": f"{CONFIDENCE:.0%}",
    }


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns the tables for the terminal."""
    title = f"{config.task}, {config.optimizer}: test loss after {config.epochs} epochs"
    parts = [_reached(records, config).terminal(title)]
    if useful_batches(records, config):
        parts.append(_useful(records, config).terminal("Largest useful batch"))
    if verdicts(records, config):
        parts.append(_tested(records, config).terminal("Useful batches, paired by seed"))
    return Group(*parts)


def notes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> Iterator[str]:
    """Yields what follows the tables on the terminal."""
    if missing := shortfall(meta):
        yield missing
    if outside := _outside(records):
        yield outside


def _reached(records: Sequence[Record], config: Config) -> Table:
    """Plain's test loss, and the others' as a multiple of it; their own where plain is no arm."""
    runs, compared = reported(records), PLAIN in config.arms

    def cell(arm: str) -> Callable[[int], str]:
        def text(size: int) -> str:
            run, plain = runs.get((size, arm)), runs.get((size, PLAIN))
            if run is None:
                return ""
            if arm == PLAIN or not compared:
                return _mean(losses(run))
            return _ratio(losses(run), losses(plain)) if plain else ""

        return text

    columns = [
        Column("batch", str),
        Column("steps", lambda size: _steps(size, records)),
        *(
            Column(f"{arm} / plain" if compared and arm != PLAIN else arm, cell(arm))
            for arm in config.arms
        ),
    ]
    return Table(columns, [size for size in config.batch_sizes if _steps(size, records)])


def _steps(size: int, records: Sequence[Record]) -> str:
    return next((str(record.steps) for record in records if record.batch_size == size), "")


def _mean(values: Sequence[float]) -> str:
    if not np.isfinite(values).all():
        return f"{sum(not math.isfinite(value) for value in values)} diverged"
    return format_interval(mean_interval(values))


def _ratio(values: Sequence[float], reference: Sequence[float]) -> str:
    if not np.isfinite(values).all():
        return _mean(values)
    if not np.isfinite(reference).all():
        return "plain diverged"
    mean, half_width = paired_difference(np.log(values), np.log(reference))
    middle = math.exp(mean)
    return format_interval(Interval(middle, middle * half_width))


def _metric(records: Sequence[Record], config: Config) -> Table:
    runs = reported(records)

    def cell(arm: str) -> Callable[[int], str]:
        def text(size: int) -> str:
            run = runs.get((size, arm))
            if run is None:
                return ""
            found = [value for value in run.test_metric if value is not None]
            return f"{np.mean(found):.4g} at {run.learning_rate:.3g}" if found else "diverged"

        return text

    columns = [Column("batch", str), *(Column(arm, cell(arm)) for arm in config.arms)]
    return Table(columns, list(config.batch_sizes))


def _useful(records: Sequence[Record], config: Config) -> Table:
    def middle(row: tuple[str, Sequence[float]]) -> str:
        return f"{2 ** np.log2(row[1]).mean():.0f}"

    def range_of(row: tuple[str, Sequence[float]]) -> str:
        return f"{min(row[1]):.0f} to {max(row[1]):.0f}"

    columns = [
        Column("arm", lambda row: row[0], left=True),
        Column("largest useful batch", middle),
        Column("over seeds", range_of),
    ]
    return Table(columns, list(useful_batches(records, config).items()))


def _tested(records: Sequence[Record], config: Config) -> Table:
    return Table(verdict_columns("doublings"), verdicts(records, config))


def _target(records: Sequence[Record], config: Config) -> str | None:
    loss = target(records, config)
    return None if loss is None else f"{loss:.4g}"


def _outside(records: Sequence[Record]) -> str | None:
    at_edge = [
        f"{arm} at {size}"
        for (size, arm), run in reported(records).items()
        if not best_is_inside(run, records)
    ]
    return (
        f"The best rate is at the edge of its grid for {', '.join(at_edge)}." if at_edge else None
    )
