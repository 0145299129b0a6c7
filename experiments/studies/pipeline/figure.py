"""The plot: the training loss over ticks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.figures import frame, ordered_colors, save
from experiments.studies.pipeline.arms import EACH, NONE, UNIFORM, WAITING
from experiments.studies.pipeline.ask import Config, Record
from experiments.studies.pipeline.verdicts import reported

_DRAWN = (NONE, "momentum", EACH, "zero-gradient", UNIFORM, "uniform-zero-gradient", WAITING)
"""More lines than these could not be told apart; the table has all arms."""

_MARKERS = "osv^D*P"


def draw_losses(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws the geometric mean over seeds; a run that is not finite counts as where it began.

    Args:
        path: the PNG to write.
        records: what the finished arms left.
        config: what was asked for.
    """
    runs = [run for arm, run in reported(records).items() if arm in _DRAWN]
    figure = Figure(figsize=(7.4, 4.8), layout="constrained")
    panel: Any = figure.subplots()
    colors = ordered_colors(len(runs))
    for run, color, marker in zip(runs, colors, _MARKERS, strict=False):
        begun = np.array(run.start["train_loss"])[:, None]
        curve = np.where(np.array(run.curve, float) < 10 * begun, np.array(run.curve, float), begun)
        losses = np.exp(np.log(np.concatenate([begun, curve], axis=1)).mean(axis=0))
        style = {"color": color, "marker": marker, "markersize": 4, "linewidth": 1.2}
        panel.plot([0, *run.at], losses, label=run.arm, **style)
    panel.set_yscale("log")
    panel.set_xlabel("ticks")
    panel.set_ylabel("training loss")
    panel.set_title(f"{config.network}: {config.optimizer}, {config.stages} stages", fontsize=10)
    frame(panel)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    save(figure, path)
