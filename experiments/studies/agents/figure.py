"""The plot: learning curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.figures import band, frame, ordered_colors, save
from experiments.studies.agents.ask import Config, Record
from experiments.studies.agents.verdicts import reported

_DASHES = ((0, (4, 2)), (0, (1, 1)), "-", "-", "-")  # plain and NAdam are broken lines


def draw_returns(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws the mean return over the steps of all actors, with its interval over seeds.

    Args:
        path: the PNG to write.
        records: what the finished arms left.
        config: what was asked for.
    """
    figure = Figure(figsize=(7.4, 4.6), layout="constrained")
    panel: Any = figure.subplots()
    steps = np.arange(1, config.updates + 1) * config.actors * config.steps
    colors = dict(zip(config.arms, ordered_colors(len(config.arms)), strict=True))
    dashes = dict(zip(config.arms, _DASHES, strict=False))
    for arm, run in reported(records).items():
        style = {"color": colors[arm], "linewidth": 1.4, "linestyle": dashes[arm]}
        label = f"{arm}, rate {run.learning_rate:.3g}"
        band(panel, steps / 1000, np.array(run.curve), style, label=label)
    panel.set_xlabel("steps of the environment, thousands")
    panel.set_ylabel("return of an episode")
    panel.set_title(config.environment, fontsize=10)
    frame(panel)
    panel.legend(frameon=False, fontsize=8, loc="lower right")
    save(figure, path)
