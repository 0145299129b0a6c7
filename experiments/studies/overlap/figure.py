"""When each step computes and when it communicates, as the compiler has ordered it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.figures import ordered_colors, save
from experiments.studies.overlap.ask import Config, Record


def draw_schedule(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws a lane of matrix products and a bar for each all-reduce, a panel for each step.

    Args:
        path: the PNG to write.
        records: the steps that finished.
        config: what was compiled.
    """
    sizes = list(dict.fromkeys(record.batch_size for record in records))
    steps = list(dict.fromkeys(record.step for record in records))
    size = (1.0 + 4.0 * len(sizes), 0.8 + 1.3 * len(steps))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(steps), len(sizes), squeeze=False, sharex="col")
    for record in records:
        panel = panels[steps.index(record.step), sizes.index(record.batch_size)]
        _draw_step(panel, record)
    for panel, step in zip(panels[:, 0], steps, strict=True):
        panel.set_ylabel(step)
    for panel, examples in zip(panels[0], sizes, strict=True):
        panel.set_title(f"{examples} examples per device")
    for panel in panels[-1]:
        panel.set_xlabel("order: matrix products (black), all-reduces")
    save(figure, path)


def _draw_step(panel: Any, record: Record) -> None:
    places = {event: place for place, event in enumerate(record.events) if event != "product"}
    products = [place for place, event in enumerate(record.events) if event == "product"]
    panel.barh([0] * len(products), [0.8] * len(products), left=products, color="0.15")
    for number, color in enumerate(ordered_colors(record.all_reduces)):
        start, done = places[f"start {number}"], places[f"done {number}"]
        panel.barh(1 + number, max(done - start, 0.8), left=start, color=color)
    panel.set_yticks([])
    panel.set_ylim(-0.6, record.all_reduces + 2.2)  # room for the text
    panel.text(
        0.99,
        0.97,
        f"{record.under_products} of {record.all_reduces} under products",
        transform=panel.transAxes,
        ha="right",
        va="top",
        fontsize=8,
    )
    panel.spines[["top", "right", "left"]].set_visible(False)
