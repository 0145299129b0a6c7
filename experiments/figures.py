"""What the figures share: colours in order, mean curves with intervals, quiet frames."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from experiments.statistics import mean_interval

_MARGIN = 0.2  # inches beside words that go across a figure


def ordered_colors(number: int, start: float = 0.0, end: float = 0.85) -> np.ndarray:
    """Returns so many colours in order.

    viridis stays ordered by lightness for every kind of colour vision; its pale end does not show
    on white.
    """
    return colormaps["viridis"](np.linspace(start, end, number))


def intervals(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and half width over seeds of each column, of ``[seeds, columns]``."""
    mean, half_width = np.array([mean_interval(column) for column in values.T]).T
    return mean, half_width


def band(panel: Any, places: Any, values: np.ndarray, style: dict[str, Any], **line: Any) -> None:
    """Draws the mean over seeds and its 95 % interval.

    Args:
        panel: where.
        places: on the horizontal axis, ``[places]``.
        values: ``[seeds, places]``.
        style: of the line; its colour is the band's.
        **line: more about the line.
    """
    mean, half_width = intervals(values)
    panel.plot(places, mean, **{"marker": _marker(mean), **style, **line})
    ends = mean - half_width, mean + half_width
    panel.fill_between(places, *ends, color=style["color"], alpha=0.18, linewidth=0)


def log_band(panel: Any, places: Any, logs: np.ndarray, style: dict[str, Any]) -> None:
    """Draws the geometric mean over seeds and its 95 % interval, up to where a seed diverges.

    Mean and interval are those of the logarithms: an interval of the values themselves would reach
    below zero.

    Args:
        panel: where.
        places: on the horizontal axis, ``[places]``.
        logs: logarithms of the values, ``[seeds, places]``.
        style: of the line; its colour is the band's.
    """
    mean, half_width = intervals(logs)
    if not np.isfinite(mean).any():
        return  # a logarithmic axis cannot be scaled to nothing
    low, middle, high = np.exp(np.clip([mean - half_width, mean, mean + half_width], -300, 300))
    panel.plot(places, middle, marker=_marker(mean), **style)
    panel.fill_between(places, low, high, color=style["color"], alpha=0.18, linewidth=0)


def _marker(values: np.ndarray) -> str:
    """What shows a curve: a line through a single point cannot be seen."""
    return "." if np.isfinite(values).sum() == 1 else ""


def frame(panel: Any) -> None:
    """Gives a panel a pale grid and takes away what frames it above and on the right."""
    panel.grid(True, color="0.9")
    panel.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path, dpi: int = 150, **more: Any) -> None:
    """Writes a figure, wider than it was made where its words have no room.

    Args:
        figure: has a constrained layout.
        path: the PNG to write.
        dpi: pixels per inch.
        **more: as of ``savefig``.
    """
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    across = [_width(words) / figure.dpi for words in (*figure.legends, *figure.texts)]
    shares = [_width(panel.title) / _width(panel) for panel in figure.axes]
    needed = max(width, *(inches + _MARGIN for inches in across), *(width * s for s in shares))
    if needed > width:
        figure.set_size_inches(needed, height)
    figure.savefig(path, dpi=dpi, **more)


def _width(artist: Artist) -> float:
    return artist.get_window_extent().width
