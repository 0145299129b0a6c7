"""Plots of the evidence: effects, performance profiles, curves, and the metric by horizon."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.arms import NESTEROV, PLAIN, SAM_EQUAL, SCHEDULE_FREE, read_arm
from experiments.figures import save
from experiments.studies.evidence.effects import (
    FACTORS,
    Comparison,
    Effect,
    Question,
    is_prediction,
)
from experiments.studies.evidence.summaries import ArmSummary, RowSummary, mean_of

_COLOURS = {
    PLAIN: "black",
    NESTEROV: "tab:orange",
    SCHEDULE_FREE: "tab:green",
    SAM_EQUAL: "tab:purple",
    "sam": "tab:pink",
    "s=1": "tab:blue",
    "s=2": "tab:cyan",
    "s=3": "navy",
}
_VERDICT_COLOURS = {"better": "tab:green", "worse": "tab:red", "undecided": "tab:gray"}
_LARGEST_LINEAR = 6.0  # percent
_DPI = 110
_PERCENT_TICKS = (-100, -30, -10, -5, -2, -1, 0, 1, 2, 5, 10, 30, 100)


def plot_comparison(folder: Path, comparison: Comparison) -> None:
    """Writes ``forest-STUDY.png``, ``profiles-STUDY.png`` and a ``curves-ROW.png`` for each row.

    Of the first two those that the comparison has something for.

    Args:
        folder: where they go.
        comparison: rows, effects and profiles of a study.
    """
    if comparison.effects:
        _forest(folder / f"forest-{comparison.study}.png", comparison.effects)
    if comparison.profiles:
        _profiles(folder / f"profiles-{comparison.study}.png", comparison.profiles)
    for summary in comparison.rows:
        _curves(folder / f"curves-{summary.row.name}.png", summary)


def _forest(file: Path, effects: Mapping[Question, Sequence[Effect]]) -> None:
    """A panel for each question; a point is filled where its difference is decided by Holm."""
    lines = max(map(len, effects.values()))
    figure = Figure(figsize=(6 * len(effects), 1.2 + 0.24 * lines), layout="constrained")
    panels = figure.subplots(1, len(effects), squeeze=False)[0]
    for axes, (question, found) in zip(panels, effects.items(), strict=True):
        for place, one in enumerate(found):
            colour = _VERDICT_COLOURS[one.verdict]
            mean, half_width = one.improvement
            face = colour if one.decided else "white"
            axes.errorbar(mean, place, xerr=half_width, fmt="o", color=colour, mfc=face, ms=5)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(found)), [f"{one.row}, {one.arm}" for one in found], fontsize=8)
        axes.set_ylim(lines - 0.5, -0.5)  # lines of all panels are as far apart
        _percent_axis(axes)
        axes.set_xlabel("improvement of the test metric [%]")
        axes.set_title(f"{question.what} against {question.against}", fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    _save(figure, file)


def _percent_axis(axes: Any) -> None:
    """Small effects stay readable beside large ones: then it is logarithmic beyond 2 %."""
    low, high = axes.get_xlim()
    if max(-low, high) <= _LARGEST_LINEAR:
        return
    axes.set_xscale("symlog", linthresh=2)
    axes.set_xlim(low, high)
    ticks = [tick for tick in _PERCENT_TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:+d}" if tick else "0" for tick in ticks])
    axes.minorticks_off()


def _profiles(file: Path, profiles: Mapping[str, np.ndarray]) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes: Any = figure.subplots()
    for arm, share in profiles.items():
        axes.step(FACTORS, share, where="post", label=arm, color=_COLOURS[arm])
    axes.set_xlabel("gradients to the target, as a multiple of the best arm's")
    axes.set_ylabel("share of rows and seeds")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _save(figure, file)


def _curves(file: Path, summary: RowSummary) -> None:
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for arm in summary.arms:
        colour = _COLOURS.get(arm.arm)
        _band(left, arm, "train_loss", colour)
        _band(right, arm, summary.metric, colour)
    left.set_ylabel("training loss")
    _log_axis(left)
    right.set_ylabel(f"validation {summary.metric}")
    if not summary.higher_is_better:
        _log_axis(right)
    for axes in (left, right):
        axes.set_xlabel("gradients")
        axes.grid(alpha=0.3)
    right.legend(fontsize=7)
    figure.suptitle(f"{summary.row.name}: mean and range over seeds, each arm at its own rate")
    _save(figure, file)


def _log_axis(axes: Any) -> None:
    axes.set_yscale("log")
    for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        formatter("{x:g}")


def _band(axes: Any, arm: ArmSummary, what: str, colour: str | None) -> None:
    runs = [result for result in arm.results.values() if result.points]
    length = min((len(result.points) for result in runs), default=0)
    if not length:
        return
    gradients = [point.step * runs[0].gradients_per_step for point in runs[0].points[:length]]
    values = np.array(
        [
            [
                np.nan if value is None else value
                for point in result.points[:length]
                for value in [point.train_loss if what == "train_loss" else point.validation[what]]
            ]
            for result in runs
        ]
    )
    line = axes.plot(gradients, values.mean(axis=0), label=arm.arm, color=colour, linewidth=1.4)
    axes.fill_between(
        gradients,
        values.min(axis=0),
        values.max(axis=0),
        color=line[0].get_color(),
        alpha=0.12,
        linewidth=0,
    )


def plot_study(folder: Path, study: str, summaries: Sequence[RowSummary]) -> None:
    """Writes ``STUDY.png``: the test metric by what the study varies, with intervals over seeds.

    Args:
        folder: where it goes.
        study: ``"horizon"`` or ``"robustness"``.
        summaries: its rows that have results; without any there is no plot.
    """
    if summaries:
        plot = {"horizon": _horizons, "robustness": _rates}[study]
        _save(plot(summaries), folder / f"{study}.png")


def _panels(figure: Figure, summaries: Sequence[RowSummary]) -> Iterator[tuple[Any, RowSummary]]:
    """Yields axes for the test metric of each row."""
    all_axes = figure.subplots(1, len(summaries), squeeze=False)[0]
    for axes, summary in zip(all_axes, summaries, strict=True):
        axes.set_ylabel(f"test {summary.metric}")
        axes.set_title(summary.row.name, fontsize=9)
        axes.grid(alpha=0.3)
        yield axes, summary


def _horizons(summaries: Sequence[RowSummary]) -> Figure:
    """By the number of steps predicted ahead, each number at its own learning rate."""
    figure = Figure(figsize=(4.2 * len(summaries), 3.4), layout="constrained")
    for axes, summary in _panels(figure, summaries):
        points = []
        for arm in summary.arms:
            read, mean = read_arm(arm.arm, summary.row.optimizer), mean_of(arm.values)
            if mean and (arm.arm == PLAIN or is_prediction(arm.arm, summary.row.optimizer)):
                points.append((read.horizon, mean.mean, mean.half_width))
        _error_bars(axes, points, color="tab:blue")
        axes.set_xlabel("steps predicted ahead, s")
    return figure


def _rates(summaries: Sequence[RowSummary]) -> Figure:
    """By the learning rate, for each arm; the rows report every rate."""
    figure = Figure(figsize=(4.8 * len(summaries), 3.6), layout="constrained")
    for axes, summary in _panels(figure, summaries):
        for name in dict.fromkeys(arm.arm for arm in summary.arms):
            points = [
                (arm.learning_rate, mean.mean, mean.half_width)
                for arm in summary.arms
                if arm.arm == name and (mean := mean_of(arm.values))
            ]
            _error_bars(axes, points, label=name, color=_COLOURS.get(name))
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.legend(fontsize=8)
    return figure


def _error_bars(axes: Any, points: Sequence[tuple[float, float, float]], **look: Any) -> None:
    """Draws ``(place, mean, half width)``; nothing where no seed has a value."""
    places, means, widths = np.array(sorted(points)).reshape(-1, 3).T
    axes.errorbar(places, means, widths, marker="o", capsize=3, **look)


def _save(figure: Figure, file: Path) -> None:
    # Without the version in it the same results give the same file.
    save(figure, file, dpi=_DPI, metadata={"Software": None})
