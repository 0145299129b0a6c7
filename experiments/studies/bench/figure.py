"""The picture of a benchmark: step time and extra bytes, a row for each optimizer."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.figures import ordered_colors, save
from experiments.studies.bench.ask import Group, Record
from experiments.studies.bench.beside import Beside, beside_plain, bytes_accessed, step_ratio
from experiments.studies.bench.variants import CONTROL, PLAIN, PREDICTED, VARIANTS

# What is beyond is written beside a bar that is cut off: SAM's second gradient would flatten all
# others.
_LARGEST_RATIO = 1.5
_LARGEST_TRAFFIC = 12.0

Styles = Mapping[str, dict[str, Any]]
Groups = Mapping[Group, Sequence[Beside]]


def draw_bars(path: Path, records: Sequence[Record], config: Any = None) -> None:
    """Draws the step times and the extra bytes accessed of all variants.

    Args:
        path: the PNG to write.
        records: what was measured.
        config: not needed.
    """
    del config
    groups = beside_plain(records)
    optimizers = list(dict.fromkeys(group.optimizer for group in groups))
    names = _variants(records)
    widest = max(sum(group.optimizer == name for group in groups) for name in optimizers)
    figure = Figure(
        figsize=(5.0 + 0.26 * widest * len(names), 1.1 + 2.5 * len(optimizers)),
        layout="constrained",
    )
    axes = figure.subplots(len(optimizers), 2, squeeze=False)
    styles = _styles(names)
    for optimizer, (times, traffic) in zip(optimizers, axes, strict=True):
        members = {group: rows for group, rows in groups.items() if group.optimizer == optimizer}
        _draw_times(times, members, styles)
        _draw_traffic(traffic, members, styles)
        times.set_ylabel(f"{optimizer}\nstep time / plain")
        traffic.set_ylabel("bytes beyond plain,\nper byte of parameters")
    axes[0, 0].set_title("Timed: median ratio, 95 % interval")
    axes[0, 1].set_title("Exact: extra bytes accessed, and the floor")
    figure.legend(
        handles=[
            *(Patch(label=name, **style) for name, style in styles.items()),
            Line2D([], [], color="red", linewidth=2.0, label="floor"),
        ],
        loc="outside lower center",
        ncols=6,
        frameon=False,
    )
    save(figure, path)


def _variants(records: Sequence[Record]) -> list[str]:
    measured = {record.variant for record in records}
    return [name for name in VARIANTS if name in measured and name != PLAIN]


def _styles(names: Sequence[str]) -> Styles:
    others = [name for name in names if name not in (*PREDICTED, CONTROL)]
    colors = dict(zip(PREDICTED, ordered_colors(len(PREDICTED), 0.05, 0.9), strict=True))
    greys = dict(zip(others, colormaps["Greys"](np.linspace(0.75, 0.3, len(others))), strict=True))
    control = {CONTROL: "white"}
    return {
        name: {"facecolor": (colors | greys | control)[name], "edgecolor": "0.2", "linewidth": 0.6}
        for name in names
    }


def _draw_times(panel: Any, groups: Groups, styles: Styles) -> None:
    for place, row in _places(groups, styles):
        ratio, style = step_ratio(row), styles[row.record.variant]
        panel.bar(place, ratio.median - 1, bottom=1, width=_width(styles), **style)
        panel.vlines(place, ratio.low, ratio.high, color="black", linewidth=1.2)
    panel.axhline(1, color="0.2", linewidth=0.8)
    _finish(panel, groups)
    low, high = panel.get_ylim()
    panel.set_ylim(max(low, 0.5), min(high, _LARGEST_RATIO))
    _write_cut_off(panel, groups, styles, lambda row: step_ratio(row).median)


def _draw_traffic(panel: Any, groups: Groups, styles: Styles) -> None:
    half = _width(styles) / 2
    for place, row in _places(groups, styles):
        record = row.record
        panel.bar(place, _traffic(row), width=2 * half, **styles[record.variant])
        if record.floor:
            floor = record.floor.traffic / record.params_bytes
            panel.hlines(floor, place - half, place + half, color="red", linewidth=2.0)
    _finish(panel, groups)
    panel.set_ylim(min(0.0, panel.get_ylim()[0]), min(panel.get_ylim()[1], _LARGEST_TRAFFIC))
    _write_cut_off(panel, groups, styles, _traffic)


def _traffic(row: Beside) -> float:
    return row.extra(bytes_accessed) / row.record.params_bytes


def _places(groups: Groups, styles: Styles) -> list[tuple[float, Beside]]:
    """Returns where each bar stands; a variant has the same place in all groups."""
    offsets = {name: (number + 0.5) * _width(styles) - 0.4 for number, name in enumerate(styles)}
    return [
        (number + offsets[row.record.variant], row)
        for number, rows in enumerate(groups.values())
        for row in rows
        if not row.is_plain
    ]


def _width(styles: Styles) -> float:
    return 0.8 / len(styles)


def _finish(panel: Any, groups: Groups) -> None:
    panel.set_xticks(range(len(groups)), [f"{g.model}\nbatch {g.batch_size}" for g in groups])
    panel.set_xlim(-0.5, len(groups) - 0.5)
    panel.tick_params(axis="x", length=0)
    panel.grid(True, axis="y", color="0.9")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _write_cut_off(
    panel: Any, groups: Groups, styles: Styles, value: Callable[[Beside], float]
) -> None:
    _, top = panel.get_ylim()
    for place, row in _places(groups, styles):
        if value(row) > top:
            panel.annotate(
                f"{value(row):.3g}",
                (place, top),
                rotation=90,
                ha="center",
                va="top",
                fontsize="x-small",
                color="black",
                bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
            )
