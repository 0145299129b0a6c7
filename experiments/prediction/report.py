"""The report on prediction errors: tables by predictor and horizon."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table

from experiments.arms import horizon_label
from experiments.folder import META_FILE, RUNS_FILE
from experiments.formats import format_interval
from experiments.page import TABLE_STYLE, markdown_table
from experiments.prediction.config import PredictionErrorConfig, PredictionRecord
from experiments.provenance import describe_origin
from experiments.statistics import Interval, mean_interval

ERRORS_FILE = "errors.png"
NO_PREDICTION = 1.0

_HEADER = ["optimizer", "predictor", "trained with"]
_MEASURES: Mapping[str, Callable[[PredictionRecord], list[list[float | None]]]] = {
    "Relative error": lambda record: record.relative_error,
    "Cosine": lambda record: record.cosine,
}


def by_arm(records: Sequence[PredictionRecord]) -> dict[tuple[str, str, float], list[Any]]:
    """Groups records by ``(optimizer, predictor, s)``, in the order in which they came."""
    groups: dict[tuple[str, str, float], list[PredictionRecord]] = {}
    for record in records:
        groups.setdefault((record.optimizer, record.predictor, record.s), []).append(record)
    return groups


def over_epochs(values: Sequence[list[list[float | None]]]) -> np.ndarray:
    """Means over the epochs, ``[seeds, horizons]``; NaN where an epoch has no finite value."""
    return np.asarray(values, float).mean(axis=1)


def terminal_report(
    records: Sequence[PredictionRecord], config: PredictionErrorConfig
) -> RenderableType:
    """Returns the tables for the terminal."""
    return Group(*(_table(title, records, config) for title in _MEASURES))


def _table(title: str, records: Sequence[PredictionRecord], config: PredictionErrorConfig) -> Table:
    table = Table(title=f"{config.task}: {_caption(title)}", **TABLE_STYLE)
    for name in _HEADER:
        table.add_column(name)
    for horizon in config.horizons:
        table.add_column(f"{horizon} ahead", justify="right")
    for row in _rows(title, records):
        table.add_row(*row)
    return table


def _rows(title: str, records: Sequence[PredictionRecord]) -> Iterator[list[str]]:
    for (optimizer, predictor, s), runs in by_arm(records).items():
        columns = over_epochs([_MEASURES[title](run) for run in runs]).T
        yield [optimizer, predictor, horizon_label(s), *map(_format, columns)]


def _format(values: np.ndarray) -> str:
    if not np.isfinite(values).all():
        return "diverged"
    mean, half_width = mean_interval(values)
    # Finer than a thousandth nobody wants to know: three decimals, unless the interval is wider.
    return format_interval(Interval(mean, max(half_width, 5e-4)))


def _caption(title: str) -> str:
    against = {"Relative error": "1 is no prediction (s=0)", "Cosine": "1 is the right direction"}
    return f"{title.lower()} of predictions by steps ahead; {against[title]}"


def markdown_report(
    records: Sequence[PredictionRecord], config: PredictionErrorConfig, meta: Mapping[str, Any]
) -> str:
    """Returns the text of ``report.md``.

    Args:
        records: what the finished arms left.
        config: what was asked for.
        meta: the contents of ``meta.json``.

    Returns:
        Markdown.
    """
    return "\n".join(_lines(records, config, meta)) + "\n"


def _lines(
    records: Sequence[PredictionRecord], config: PredictionErrorConfig, meta: Mapping[str, Any]
) -> Iterator[str]:
    yield f"# How good predictions are on {config.task}"
    if meta["arms_finished"] < meta["arms_planned"]:
        finished, planned = meta["arms_finished"], meta["arms_planned"]
        yield f"\n**Interrupted:** {finished} of {planned} arms finished."
    if records:
        yield f"\n![Relative error and cosine by steps ahead]({ERRORS_FILE})"
        header = [*_HEADER, *(f"{horizon} ahead" for horizon in config.horizons)]
        for title in _MEASURES:
            yield f"\n## {title}\n"
            yield from markdown_table(header, _rows(title, records))
        yield "\n## Relative error in the course of training\n"
        yield from _course(records, config)
    yield "\n## How to read this\n"
    yield from _notes(config)
    yield "\n## Configuration\n"
    yield from markdown_table(["optimizer", "learning rate"], config.learning_rates.items())
    yield f"\nLearning rates: {config.learning_rate_origin}."
    yield (
        f"Epochs {config.epochs}; batch size {config.batch_size}; seeds "
        f"{', '.join(map(str, config.seeds))}. {describe_origin(meta)} Everything else: "
        f"`{META_FILE}`; every epoch: `{RUNS_FILE}`."
    )


def _course(records: Sequence[PredictionRecord], config: PredictionErrorConfig) -> Iterator[str]:
    """The first and the last epoch, at the shortest and the longest horizon."""
    ends = [config.horizons[0], config.horizons[-1]][: len(config.horizons)]
    epochs = {"first epoch": 0, "last epoch": -1}
    header = [*_HEADER, *(f"{h} ahead, {epoch}" for h in ends for epoch in epochs), "validation"]
    rows = []
    for (optimizer, predictor, s), runs in by_arm(records).items():
        errors = np.asarray([run.relative_error for run in runs], float)
        cells = [
            _format(errors[:, epoch, config.horizons.index(horizon)])
            for horizon in ends
            for epoch in epochs.values()
        ]
        metric = np.asarray([run.validation_metric for run in runs], float)
        rows.append([optimizer, predictor, horizon_label(s), *cells, f"{metric.mean():.1f}"])
    yield from markdown_table(header, rows)


def _notes(config: PredictionErrorConfig) -> Iterator[str]:
    yield (
        "- The relative error of a prediction h steps ahead is its distance from the parameters "
        "reached h steps later, divided by the distance that the parameters went. Without "
        "prediction (s=0) it is 1; only below 1 is the predicted point the nearer one."
    )
    yield (
        "- The cosine is that of the angle between the predicted and the actual movement. A "
        "direction may be right, with a cosine near 1, and the length wrong."
    )
    yield (
        "- Values are means over all steps of each epoch, over the epochs, and over "
        f"{len(config.seeds)} seeds, ± the half width of the 95 % interval over seeds."
    )
    yield (
        "- Arms trained with s=0 follow the plain optimizer's trajectory, so their predictors are "
        "judged on the same steps. Others take their gradients at their own predictions."
    )
