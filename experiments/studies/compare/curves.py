"""The picture of a comparison: one panel an optimizer, one line an arm.

Below each panel a strip shows every arm's loss as a multiple of ``s=0`` at the same seed: what the
arms share, most of the loss, hides differences of a few per cent in the panel itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.arms import horizon_label
from experiments.compared import PLAIN, group_by_arm
from experiments.figures import frame, log_band, ordered_colors, save
from experiments.studies.compare.ask import Config, Record

_PANELS_PER_ROW = 3
_BASELINE_STYLE = {"color": "0.35", "linestyle": "--", "linewidth": 1.4}

_LARGEST_RATIO = 2.0  # beyond it the panel itself shows the difference

Styles = dict[str, dict[str, Any]]


def plot_curves(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws the training loss of each arm over the epochs, with its 95 % interval.

    Args:
        path: the PNG to write.
        records: the runs of all arms that finished.
        config: what was compared.
    """
    optimizers = list(dict.fromkeys(record.optimizer for record in records))
    columns = min(len(optimizers), _PANELS_PER_ROW)
    rows = -(-len(optimizers) // columns)
    figure = Figure(figsize=(1.0 + 3.7 * columns, 0.9 + 3.6 * rows), layout="constrained")
    axes = figure.subplots(
        2 * rows, columns, sharex=True, squeeze=False, height_ratios=[2.6, 1] * rows
    )
    styles = _styles(records, config.horizons)
    for number, (panel, strip) in enumerate(_pairs(axes)):
        if number < len(optimizers):
            name = optimizers[number]
            runs = [record for record in records if record.optimizer == name]
            _draw_losses(panel, runs, styles)
            _draw_ratios(strip, runs, styles)
            panel.set_title(f"{name}, learning rate {config.learning_rates[name]:g}")
        else:
            panel.remove()
            strip.remove()
    _label(figure, axes, config, styles)
    save(figure, path)


def _pairs(axes: np.ndarray) -> list[tuple[Any, Any]]:
    """Returns each optimizer's panel and the strip below it, row by row."""
    return list(zip(axes[0::2].ravel(), axes[1::2].ravel(), strict=True))


def _styles(records: Sequence[Record], horizons: Sequence[float]) -> Styles:
    colors = ordered_colors(len(horizons))
    styles: Styles = {
        horizon_label(horizon): {"color": color, "linewidth": 1.8}
        for horizon, color in zip(sorted(horizons), colors, strict=True)
    }
    baselines = {record.arm: _BASELINE_STYLE for record in records if record.horizon is None}
    return styles | baselines


def _draw_losses(panel: Any, runs: Sequence[Record], styles: Styles) -> None:
    for arm, logs in _log_losses(runs).items():
        _draw(panel, logs, styles[arm])
    panel.set_yscale("log")
    # Limits by the means and the start: a diverging arm or a huge interval leaves the panel
    # instead of flattening all others.
    means = [mean for line in panel.lines for mean in line.get_ydata() if mean > 0]
    panel.set_ylim(0.7 * min(means, default=0.1), 2.0 * max(run.train_loss[0] or 1 for run in runs))


def _draw_ratios(strip: Any, runs: Sequence[Record], styles: Styles) -> None:
    logs = _log_losses(runs)
    if PLAIN in logs:
        for arm in logs:
            _draw(strip, logs[arm] - logs[PLAIN], styles[arm])
    strip.tick_params(labelbottom=True)
    strip.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    bottom, top = strip.get_ylim()
    strip.set_ylim(max(bottom, 0.0), min(top, _LARGEST_RATIO))


def _log_losses(runs: Sequence[Record]) -> dict[str, np.ndarray]:
    """Returns each arm's logarithmic training losses, ``[seeds, epochs + 1]``."""
    least = np.finfo(np.float32).tiny  # a perfect fit has no logarithm
    return {
        arm: np.log(np.maximum(np.array([run.train_loss for run in arm_runs], float), least))
        for (_, arm), arm_runs in group_by_arm(runs).items()
    }


def _draw(panel: Any, logs: np.ndarray, style: dict[str, Any]) -> None:
    log_band(panel, np.arange(logs.shape[1]), logs, style)
    frame(panel)


def _label(figure: Figure, axes: np.ndarray, config: Config, styles: Styles) -> None:
    horizons = {arm: style for arm, style in styles.items() if style is not _BASELINE_STYLE}
    labels = {PLAIN: "s=0 (plain)"}
    lines = [Line2D([], [], label=labels.get(arm, arm), **horizons[arm]) for arm in horizons]
    baselines = " / ".join(arm for arm in styles if arm not in horizons)
    if baselines:
        lines.append(Line2D([], [], label=baselines, **_BASELINE_STYLE))
    figure.legend(
        handles=lines,
        title=f"{config.task}: geometric mean over seeds, shaded 95 % interval",
        loc="outside upper center",
        ncols=len(lines),
        frameon=False,
    )
    for row, label in enumerate(["training loss", "multiple\nof s=0"] * (len(axes) // 2)):
        axes[row, 0].set_ylabel(label)
    figure.align_ylabels(axes[:, 0])
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))  # of all: the axis is shared
    figure.supxlabel("epoch")
