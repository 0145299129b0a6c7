"""The plot: test loss over the batch size, and the rate that was chosen."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.figures import frame, ordered_colors, save
from experiments.statistics import mean_interval
from experiments.studies.batch_size.ask import Config, Record
from experiments.studies.batch_size.useful import losses, reported, target

_DASHES = ((0, (4, 2)), (0, (1, 1)), "-", "-", "-")  # plain and Nesterov's are broken lines


def draw_losses(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws the geometric mean of the test loss with its interval over seeds, and learning rates.

    Args:
        path: the PNG to write.
        records: what the finished arms left.
        config: what was asked for.
    """
    figure = Figure(figsize=(9.2, 4.2), layout="constrained")
    above, beside = panels = figure.subplots(1, 2)
    colors = ordered_colors(len(config.arms))
    for arm, color, dashes in zip(config.arms, colors, _DASHES, strict=False):
        own = [run for (_, name), run in reported(records).items() if name == arm]
        style: dict[str, Any] = {"color": color, "linewidth": 1.4, "linestyle": dashes}
        _draw_band(above, [run for run in own if np.isfinite(losses(run)).all()], style, arm)
        beside.plot(
            [run.batch_size for run in own], [run.learning_rate for run in own], marker=".", **style
        )
    if (loss := target(records, config)) is not None:
        above.axhline(loss, color="0.35", linewidth=1, linestyle=(0, (1, 1)))
    above.set_ylabel(f"test loss after {config.epochs} epochs")
    beside.set_ylabel("learning rate that was chosen")
    for panel in panels:
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(config.batch_sizes, [str(size) for size in config.batch_sizes])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel("examples of a batch")
        frame(panel)
    if above.get_legend_handles_labels()[0]:
        above.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{config.task}, {config.optimizer}", fontsize=10)
    save(figure, path)


def _draw_band(panel: Any, runs: Sequence[Record], style: dict[str, Any], arm: str) -> None:
    if not runs:
        return
    middle, half = np.array([mean_interval(np.log(losses(run))) for run in runs]).T
    sizes = [run.batch_size for run in runs]
    panel.plot(sizes, np.exp(middle), label=arm, marker=".", **style)
    half = np.where([math.isfinite(width) for width in half], half, 0.0)
    ends = np.exp(middle - half), np.exp(middle + half)
    panel.fill_between(sizes, *ends, color=style["color"], alpha=0.15, linewidth=0)
