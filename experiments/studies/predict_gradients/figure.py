"""The picture: accuracy against both currencies, and what the predictor was worth meanwhile."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from experiments.figures import band, frame, save
from experiments.studies.predict_gradients.ask import ARMS, PLAIN, Config, Record
from experiments.studies.predict_gradients.summary import by_arm

_PLACES = 60  # on each axis, at which the seeds' curves are averaged

# Okabe and Ito's colours, distinguishable with any kind of colour vision.
_COLORS = dict(
    zip(
        [kind for kind in ARMS if kind != PLAIN],
        ["#D55E00", "#0072B2", "#009E73", "#CC79A7"],
        strict=True,
    )
)


def draw_curves(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws four panels: accuracy by time, accuracy by operations, ρ and f by time.

    Args:
        path: the PNG to write.
        records: the runs of all seeds that finished.
        config: what was compared.
    """
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    (by_time, by_flops), (alignment, fraction) = figure.subplots(2, 2, height_ratios=[1.5, 1])
    styles = _styles(records)
    for arm, runs in by_arm(records).items():
        style = styles[arm]
        _draw(by_time, runs, _seconds, lambda run: run.accuracy, style, arm)
        _draw(by_flops, runs, _gigaflops, lambda run: run.accuracy, style, arm)
        if runs[0].kind != PLAIN:
            _draw(alignment, runs, _seconds, lambda run: run.rho, style, arm)
            _draw(fraction, runs, _seconds, lambda run: run.control_fraction, style, arm)
    _label(figure, [by_time, by_flops, alignment, fraction], config)
    save(figure, path, dpi=130)


def _seconds(run: Record) -> list[float]:
    return run.seconds


def _gigaflops(run: Record) -> list[float]:
    return [flops / 1e9 for flops in run.flops]


def _styles(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    plain = [arm for arm, runs in by_arm(records).items() if runs[0].kind == PLAIN]
    greys = colormaps["Greys"](np.linspace(0.9, 0.4, max(len(plain), 1)))
    return {
        arm: {"color": greys[plain.index(arm)], "linestyle": "--", "linewidth": 1.3}
        if arm in plain
        else {"color": _COLORS[runs[0].kind], "linewidth": 1.8}
        for arm, runs in by_arm(records).items()
    }


def _draw(
    panel: Any,
    runs: Sequence[Record],
    axis: Callable[[Record], Sequence[float]],
    value: Callable[[Record], Sequence[float | None]],
    style: dict[str, Any],
    label: str,
) -> None:
    """Averages the seeds' curves at common places, no further than every seed has come."""
    curves = [(np.array(axis(run)), np.array(value(run), float)) for run in runs]
    curves = [(x[np.isfinite(y)], y[np.isfinite(y)]) for x, y in curves]
    if any(len(x) == 0 for x, _ in curves):
        return
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    places = np.linspace(low, high, _PLACES)
    values = np.array([np.interp(places, x, y) for x, y in curves])
    band(panel, places, values, style, label=label)


def _label(figure: Figure, panels: Sequence[Any], config: Config) -> None:
    by_time, by_flops, alignment, fraction = panels
    names = ("validation accuracy [%]", "validation accuracy [%]", "alignment ρ", "control part f")
    for panel, name in zip(panels, names, strict=True):
        panel.set_ylabel(name)
        panel.set_xlabel("seconds of the arm's own clock")
        frame(panel)
    by_flops.set_xlabel("billions of floating-point operations, fits included")
    for panel in (by_time, by_flops):
        top = max((line.get_ydata().max() for line in panel.lines), default=100.0)
        middle = np.median([line.get_ydata()[len(line.get_ydata()) // 8] for line in panel.lines])
        panel.set_ylim(min(middle, top - 5), top + 0.15 * (top - min(middle, top - 5)))
    alignment.set_ylim(0, 1)
    fraction.set_ylim(0, 1.05)
    noise = f", {config.label_noise:.0%} label noise" if config.label_noise else ""
    title = f"{config.problem}{noise}: mean over {len(config.seeds)} seeds, shaded 95 % interval"
    handles, labels = by_time.get_legend_handles_labels()
    figure.legend(handles, labels, title=title, loc="outside upper center", ncols=4, frameon=False)
