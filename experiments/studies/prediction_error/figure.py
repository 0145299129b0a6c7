"""The picture of prediction errors: one panel an optimizer, the error above, the cosine below."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.arms import horizon_label
from experiments.compared import grouped
from experiments.figures import band, frame, ordered_colors, save
from experiments.studies.prediction_error.ask import Config, Record

NO_PREDICTION = 1.0

_MEASURES = ("relative_error", "cosine")
_LINE_STYLES = ("-", "--", ":", "-.")
_REFERENCE = {"color": "0.35", "linewidth": 1.2, "linestyle": (0, (1, 1))}
_LARGEST_ERROR = 3.0  # beyond it nobody would predict


def over_epochs(values: Any) -> np.ndarray:
    """Means over the epochs of ``[seeds, epochs, horizons]``; NaN if one has no finite value."""
    return np.asarray(values, float).mean(axis=1)


def draw_errors(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws error and cosine over the horizon, with 95 % intervals over seeds.

    Args:
        path: the PNG to write.
        records: what all arms that finished left.
        config: what was measured.
    """
    optimizers = list(dict.fromkeys(record.optimizer for record in records))
    figure = Figure(figsize=(1.0 + 2.7 * len(optimizers), 5.6), layout="constrained")
    axes = figure.subplots(2, len(optimizers), sharex=True, sharey="row", squeeze=False)
    styles = _styles(config)
    for (upper, lower), name in zip(axes.T, optimizers, strict=True):
        upper.set_title(f"{name}, learning rate {config.learning_rates[name]:g}", fontsize=10)
        runs = [record for record in records if record.optimizer == name]
        for (predictor, s), group in grouped(runs, lambda run: (run.predictor, run.s)).items():
            style = styles[predictor] | {"linestyle": _line_style(config, s)}
            errors, cosines = ([getattr(run, name) for run in group] for name in _MEASURES)
            band(upper, config.horizons, over_epochs(errors), style, marker=".")
            band(lower, config.horizons, over_epochs(cosines), style, marker=".")
        frame(upper)
        frame(lower)
        upper.axhline(NO_PREDICTION, **_REFERENCE)
        lower.axhline(0.0, **_REFERENCE)
    axes[0, 0].set_ylim(0.0, min(axes[0, 0].get_ylim()[1], _LARGEST_ERROR))
    axes[0, 0].set_ylabel("relative error")
    axes[1, 0].set_ylabel("cosine")
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supxlabel("steps ahead")
    _add_legend(figure, config, styles)
    save(figure, path)


def _styles(config: Config) -> dict[str, dict[str, Any]]:
    colors = ordered_colors(len(config.predictors), end=0.8)
    return {
        predictor: {"color": color, "linewidth": 1.8}
        for predictor, color in zip(config.predictors, colors, strict=True)
    }


def _line_style(config: Config, s: float) -> Any:
    return _LINE_STYLES[config.trained_with.index(s) % len(_LINE_STYLES)]


def _add_legend(figure: Figure, config: Config, styles: dict[str, dict[str, Any]]) -> None:
    lines = [Line2D([], [], label=name, **style) for name, style in styles.items()]
    lines.append(Line2D([], [], label="no prediction", **_REFERENCE))
    if len(config.trained_with) > 1:
        lines += [
            Line2D(
                [],
                [],
                label=f"trained with {horizon_label(s)}",
                color="0.35",
                linestyle=_line_style(config, s),
            )
            for s in config.trained_with
        ]
    figure.legend(
        handles=lines,
        title=f"{config.task}: mean over training, shaded 95 % interval over seeds",
        loc="outside upper center",
        ncols=len(lines),
        frameon=False,
    )
