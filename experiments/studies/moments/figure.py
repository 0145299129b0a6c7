"""The picture of the moments: a column of panels an optimizer and rate, a row a quantity."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.arms import horizon_label
from experiments.compared import grouped
from experiments.figures import band, frame, log_band, ordered_colors, save
from experiments.studies.moments.ask import MEASURED, RATIO, Config, Quantity, Record

_ZERO = {"color": "0.35", "linewidth": 1.0, "linestyle": (0, (1, 1))}


def over_seeds(runs: Sequence[Record], name: str, quantity: Quantity) -> np.ndarray:
    """Returns a quantity ``[seeds, epochs]``, its logarithm where ratios judge it.

    NaN stands for what is not known.
    """
    epochs = len(runs[0].loss)
    found = [getattr(run, name) or [None] * epochs for run in runs]
    values = np.array(found, float)
    if quantity.judged != RATIO:
        return values
    return np.log(values, where=values > 0, out=np.full_like(values, np.nan))


def draw_moments(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws every quantity over the epochs, with 95 % intervals over seeds.

    Args:
        path: the PNG to write.
        records: what all arms that finished left.
        config: what was measured.
    """
    trainings = grouped(records, lambda run: (run.optimizer, run.learning_rate))
    size = (1.0 + 2.6 * len(trainings), 1.2 + 1.6 * len(MEASURED))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(MEASURED), len(trainings), sharex=True, squeeze=False)
    colors = ordered_colors(len(config.horizons))
    styles = {
        s: {"color": color, "linewidth": 1.6}
        for s, color in zip(config.horizons, colors, strict=True)
    }
    for column, ((optimizer, rate), runs) in zip(panels.T, trainings.items(), strict=True):
        column[0].set_title(f"{optimizer}, γ = {rate:g}", fontsize=10)
        for panel, item in zip(column, MEASURED.items(), strict=True):
            for s, arm in grouped(runs, lambda run: run.s).items():
                _draw(panel, over_seeds(arm, *item), item[1], styles[s])
            frame(panel)
    for panel, quantity in zip(panels[:, 0], MEASURED.values(), strict=True):
        panel.set_ylabel(quantity.symbol)
    panels[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels(panels[:, 0])
    figure.supxlabel("epoch")
    figure.legend(
        handles=[Line2D([], [], label=horizon_label(s), **style) for s, style in styles.items()],
        title=f"{config.problem}: means over seeds, shaded 95 % interval",
        loc="outside upper center",
        ncols=len(styles),
        frameon=False,
    )
    save(figure, path, dpi=80)


def _draw(panel: Any, values: np.ndarray, quantity: Quantity, style: dict[str, Any]) -> None:
    epochs = np.arange(1, values.shape[1] + 1)
    if quantity.judged == RATIO:
        log_band(panel, epochs, values, style)
        panel.set_yscale("log")
    else:
        band(panel, epochs, values, style)
        panel.axhline(0.0, **_ZERO)
