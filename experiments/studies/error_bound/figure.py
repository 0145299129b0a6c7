"""The picture of the bounds: a column for an optimizer, a row for a choice of L."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.arms import horizon_label
from experiments.compared import grouped
from experiments.figures import frame, intervals, ordered_colors, save
from experiments.studies.error_bound.ask import FULL, HESSIAN, MINI, VISITED, Config, Record

_ROWS = {VISITED: "L of the places visited", HESSIAN: "L of the Hessian"}
_BATCHES = {FULL: "all examples", MINI: "mini-batches"}
_LINE_STYLES = ("-", "--", ":", "-.")
_LARGEST = 1e4  # beyond it a bound says nothing


def ratios(run: Record, chosen: str) -> np.ndarray:
    """Bound over actual error: quartiles over steps, ``[3, horizons]``; infinite for no bound."""
    bound, error = np.array(run.bounds[chosen], float), np.array(run.error, float)
    # Quantiles between finite numbers and infinity: of the steps themselves.
    with np.errstate(divide="ignore", invalid="ignore"):  # errors of 0 are below all numbers
        ratio = np.nan_to_num(bound, nan=np.inf) / error
    return np.quantile(ratio, [0.25, 0.5, 0.75], axis=0, method="higher")


def draw_ratios(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws how much larger bounds are than errors, with 95 % intervals over seeds.

    Args:
        path: the PNG to write.
        records: what all arms that finished left.
        config: what was bounded.
    """
    optimizers = list(dict.fromkeys(record.optimizer for record in records))
    figure = Figure(figsize=(1.4 + 3.2 * len(optimizers), 6.2), layout="constrained")
    axes = figure.subplots(len(_ROWS), len(optimizers), sharex=True, sharey=True, squeeze=False)
    colors = dict(zip(_BATCHES, ordered_colors(len(_BATCHES), end=0.6), strict=True))
    styles = dict(zip(config.trained_with, _LINE_STYLES * len(config.trained_with), strict=False))
    for panels, (chosen, title) in zip(axes, _ROWS.items(), strict=True):
        panels[0].set_ylabel(f"bound / error,\n{title}")
        for panel, optimizer in zip(panels, optimizers, strict=True):
            runs = [record for record in records if record.optimizer == optimizer]
            for (batches, s), group in grouped(runs, lambda run: (run.batches, run.s)).items():
                look = {"color": colors[batches], "linestyle": styles[s], "linewidth": 1.8}
                values = np.array([ratios(run, chosen)[1] for run in group])
                shown = (values <= _LARGEST).all(axis=0)
                _draw_band(panel, np.array(config.horizons)[shown], values[:, shown], look)
            frame(panel)
            panel.set_yscale("log")
    for panel, optimizer in zip(axes[0], optimizers, strict=True):
        panel.set_title(optimizer, fontsize=10)
    axes[0, 0].set_ylim(0.8, _LARGEST)
    axes[0, 0].set_xticks(config.horizons)
    figure.supxlabel("steps ahead")
    lines = [Line2D([], [], color=colors[kind], label=_BATCHES[kind]) for kind in config.batches]
    lines += [
        Line2D([], [], color="0.35", linestyle=style, label=f"trained with {horizon_label(s)}")
        for s, style in styles.items()
    ]
    figure.legend(
        handles=lines,
        title=f"{config.problem}: median over steps, shaded 95 % interval over seeds; 1 is exact",
        loc="outside upper center",
        ncols=len(lines),
        frameon=False,
    )
    save(figure, path)


def _draw_band(panel: Any, places: Any, values: np.ndarray, look: dict[str, Any]) -> None:
    """Draws the geometric mean over seeds and its interval, of ``[seeds, places]``."""
    mean, half_width = intervals(np.log(values)) if values.size else np.zeros((2, 0))
    panel.plot(places, np.exp(mean), marker=".", **look)
    ends = np.exp(mean - half_width), np.exp(mean + half_width)
    panel.fill_between(places, *ends, color=look["color"], alpha=0.18, linewidth=0)
