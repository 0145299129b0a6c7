"""The plot: the loss over the delay, one line an arm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.figures import frame, ordered_colors, save
from experiments.studies.delay.arms import ARMS
from experiments.studies.delay.ask import JUDGED, Config, Record
from experiments.studies.delay.shares import reported

_MARKERS = "osv^D*PX<>ph"


def draw_delays(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws the geometric mean of the loss over the delay, a panel an optimizer.

    Args:
        path: the PNG to write.
        records: what the finished arms left.
        config: what was asked for.
    """
    optimizers = list(dict.fromkeys(record.optimizer for record in records))
    figure = Figure(figsize=(2.4 + 4.4 * len(optimizers), 4.8), layout="constrained")
    panels = figure.subplots(1, len(optimizers), sharey=True, squeeze=False)[0]
    styles = _styles()
    for panel, optimizer in zip(panels, optimizers, strict=True):
        _draw(panel, reported(records, optimizer), config, styles)
        panel.set_title(optimizer, fontsize=10)
    panels[0].set_ylabel("training loss")
    figure.supxlabel("updates that gradients are late")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    save(figure, path)


def _styles() -> Mapping[str, Mapping[str, Any]]:
    """By arm: full lines for those that predict, broken ones for the others; colours in order."""
    groups = [[arm for arm in ARMS if _predicts(arm) == wanted] for wanted in (True, False)]
    colors = {
        arm: color
        for group in groups
        for arm, color in zip(group, ordered_colors(len(group), end=0.95), strict=True)
    }
    return {
        arm: {
            "color": colors[arm],
            "marker": marker,
            "markersize": 5,
            "linewidth": 1.4,
            "linestyle": "-" if _predicts(arm) else (0, (3, 2)),
        }
        for marker, arm in zip(_MARKERS, ARMS, strict=True)
    }


def _predicts(arm: str) -> bool:
    return any(setting.horizon for setting in ARMS[arm].settings(1))


def _draw(panel: Any, runs: Any, config: Config, styles: Any) -> None:
    """One optimizer; delays are drawn at equal distances."""
    for arm, style in styles.items():
        delays = [delay for delay in config.delays if (arm, delay) in runs]
        if not delays:
            continue
        losses = [np.log(runs[arm, delay].counted(JUDGED)).mean() for delay in delays]
        places = [config.delays.index(delay) for delay in delays]
        panel.plot(places, np.exp(losses), label=arm, **style)
    panel.set_xticks(range(len(config.delays)), [str(delay) for delay in config.delays])
    panel.set_yscale("log")
    frame(panel)
