"""The plot: the largest stable rate over the horizons of two stages, a panel a case."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from experiments.figures import save
from experiments.studies.pipeline.ask import Config, Record
from experiments.studies.pipeline.theory import CASES, DELAYS, HORIZONS, landscape


def draw_landscapes(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws what the model says; it knows nothing of the runs.

    Args:
        path: the PNG to write.
        records: not used.
        config: not used.
    """
    del records, config
    figure = Figure(figsize=(9.2, 8.2), layout="constrained")
    for panel, case in zip(
        figure.subplots(2, 2, sharex=True, sharey=True).flat, CASES, strict=True
    ):
        _draw(figure, panel, landscape(case))
        panel.set_title(case.title, fontsize=10)
    figure.supxlabel(f"horizon of the last stage, which is {DELAYS[1]} updates late")
    figure.supylabel(f"horizon of the first stage, which is {DELAYS[0]} updates late")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    save(figure, path, dpi=100)


def _draw(figure: Figure, panel: Any, rates: np.ndarray) -> None:
    """One landscape; of several that are best the one in the middle is marked."""
    image = panel.pcolormesh(HORIZONS, HORIZONS, rates, norm=LogNorm(), cmap="viridis")
    figure.colorbar(image, ax=panel, label="largest stable rate")
    ties = np.argwhere(rates == rates.max())
    first, last = DELAYS
    marks = {
        "none": ((0, 0), "x"),
        "each its delay": ((first, last), "s"),
        "uniform": ((first, first), "o"),
        "best": (HORIZONS[ties[len(ties) // 2]], "*"),
    }
    for name, ((mine, other), marker) in marks.items():
        style = {"color": "white", "markeredgecolor": "black", "markersize": 11}
        panel.plot(other, mine, marker, label=name, clip_on=False, zorder=3, **style)
