"""The figures: what was predicted and observed, and what the quadratic model says about s."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from experiments.arms import horizon_label
from experiments.figures import frame, ordered_colors, save
from experiments.studies.stability.ask import Config, Record
from xgrad_optax.stability import (
    best_horizon,
    effective_horizon,
    max_learning_rate,
    spectral_radius,
    stationary_variance,
    widest_horizon,
)

_DELAYS = (0, 1, 2, 4, 8, 16)


def draw_limits(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws what was predicted as lines and what was observed as marks.

    Args:
        path: the PNG to write.
        records: the horizons that finished.
        config: what was measured.
    """
    figure = Figure(figsize=(13.5, 4.2), layout="constrained")
    radii, limits, edge = figure.subplots(1, 3)
    colors = ordered_colors(len(records))
    for record, color in zip(records, colors, strict=True):
        _draw_radius(radii, record, config.momentum, color)
        _draw_edge(edge, record, color)
    radii.axhline(1, color="0.2", linewidth=0.8)
    radii.set(
        title="Near a point: growth per step",
        xlabel="learning rate / predicted limit",
        ylabel="spectral radius (line: predicted)",
    )
    radii.legend(frameon=False)
    _draw_limits(limits, records, config.momentum)
    edge.axhline(2 * (1 + config.momentum), color="0.2", linestyle="--", label="2(1 + μ)")
    edge.set(
        title=f"Full-batch training, γ = {config.scale.edge_rate:g}",
        xlabel="step",
        ylabel="γh(1 + 2s)",
        yscale="log",
    )
    edge.legend(frameon=False)
    for panel in (radii, limits, edge):
        frame(panel)
    figure.suptitle(f"SGDM with weight prediction on {config.problem}, μ = {config.momentum:g}")
    save(figure, path)


def _draw_radius(panel: Any, record: Record, momentum: float, color: Any) -> None:
    factors = np.linspace(0.75, 1.12, 200)
    rates = factors * record.predicted_limit
    predicted = spectral_radius(record.curvature, rates, record.s, momentum)
    panel.plot(factors, predicted, color=color, linewidth=1.2)
    measured = [np.nan if radius is None else radius for radius in record.local_measured]
    panel.plot(record.local_factors, measured, "o", color=color, label=horizon_label(record.s))


def _draw_limits(panel: Any, records: Sequence[Record], momentum: float) -> None:
    horizons = np.array([record.s for record in records])
    fine = np.linspace(0, max(horizons.max(), 1), 200)
    predicted = max_learning_rate(records[0].curvature, fine, momentum)
    panel.plot(fine, predicted, color="0.2", linewidth=1.2, label="predicted")
    for name, mark, label in (
        ("local_limit", "o", "observed near the point"),
        ("batch_limit", "^", "mini-batch training, from random parameters"),
    ):
        observed = [getattr(record, name) for record in records]
        if not any(observed):
            continue
        values = [np.nan if value is None else value for value in observed]
        panel.plot(horizons, values, mark, label=label)
    panel.set(title="Largest stable learning rate", xlabel="horizon s", ylabel="γ", yscale="log")
    panel.xaxis.set_major_locator(FixedLocator(sorted(horizons)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_ylim(top=6 * panel.get_ylim()[1])  # room for the legend
    panel.legend(frameon=False, loc="upper right")


def _draw_edge(panel: Any, record: Record, color: Any) -> None:
    values = [np.nan if value is None else value for value in record.edge_sharpness]
    panel.plot(record.edge_steps, values, color=color, label=horizon_label(record.s))


def draw_choice(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws what the quadratic model says about the choice of s; nothing is measured here.

    Args:
        path: the PNG to write.
        records: the horizons that finished.
        config: what was measured.
    """
    momentum = config.momentum
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    fastest, noise = figure.subplots(1, 2)
    colors = ordered_colors(4)
    products = np.geomspace(0.01, 2 * (1 + momentum), 200)
    fastest.plot(products, (1 + momentum) / products - 0.5, "--", color="0.2", label="stable below")
    for condition, color in zip((1, 10, 100, 1000), colors, strict=True):
        spectra = np.stack([products / condition, products], axis=-1)
        best = best_horizon(spectra, 1.0, momentum)
        fastest.plot(products, best, color=color, label=f"fastest, h_max/h_min = {condition}")
    fastest.set(xscale="log", xlabel="γ h_max", ylabel="s", ylim=(-0.2, 10))
    fastest.set_title("The s that converges fastest without noise")
    horizons = np.linspace(0, 8, 400)
    for product, color in zip((0.03, 0.1, 0.3, 1.0), colors, strict=True):
        variances = stationary_variance(product, 1.0, horizons, momentum)
        ratios = variances / stationary_variance(product, 1.0, 0, momentum)
        noise.plot(horizons, ratios, color=color, label=f"γh = {product:g}")
    noise.set(xlabel="s", ylabel="variance / variance at s = 0", ylim=(0, 1.5))
    noise.set_title("What gradient noise leaves around the minimum")
    for panel in (fastest, noise):
        panel.legend(frameon=False)
        frame(panel)
    figure.suptitle(f"The quadratic model at μ = {momentum:g}")
    save(figure, path)


def draw_late(path: Path, records: Sequence[Record], config: Config) -> None:
    """Draws what late gradients leave of the stable range, and which horizon gives some of it back.

    Args:
        path: the PNG to write.
        records: the horizons that finished; nothing is measured here.
        config: what was measured.
    """
    momentum = config.momentum
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    horizons, delays = figure.subplots(1, 2)
    fine = np.linspace(0, 18, 400)
    for delay, color in zip(_DELAYS, ordered_colors(len(_DELAYS)), strict=True):
        limits = max_learning_rate(1.0, fine, momentum, delay=delay)
        horizons.plot(fine, limits, color=color, label=f"τ = {delay}")
        if delay:
            widest = float(widest_horizon(momentum, delay=delay))
            horizons.plot(widest, _limit(widest, momentum, delay), "o", color=color)
    horizons.set(xlabel="horizon s (dot: the widest range)", ylabel="largest stable γh")
    horizons.set(yscale="log", title="Stable range over the horizon")
    _draw_ranges(delays, momentum)
    for panel in (horizons, delays):
        panel.legend(frameon=False)
        frame(panel)
    figure.suptitle(
        f"Gradients that arrive τ updates late, the quadratic model at μ = {momentum:g}"
    )
    save(figure, path)


def _draw_ranges(panel: Any, momentum: float) -> None:
    late = np.arange(1, 33)
    rolled_out = [float(effective_horizon(tau + 1, momentum)) for tau in late]
    lines = {
        "s = 0": np.zeros(len(late)),
        "s = τ": late,
        "zero_gradient(), τ + 1": rolled_out,
    }
    for (label, s), color in zip(lines.items(), ordered_colors(len(lines)), strict=True):
        limits = [_limit(h, momentum, tau) for h, tau in zip(s, late, strict=True)]
        panel.plot(late, limits, color=color, label=label)
    # Per unit of the rate at which it moves along a constant gradient, γ/(1 − μ).
    without = [(1 - momentum) * _limit(0.0, 0.0, tau) for tau in late]
    panel.plot(late, without, "--", color="0.4", label="no momentum, times 1 − μ")
    panel.set(xlabel="delay τ", ylabel="largest stable γh", yscale="log", xscale="log")
    panel.set_title("Stable range over the delay")


def _limit(s: float, momentum: float, delay: Any) -> float:
    return float(max_learning_rate(1.0, s, momentum, delay=int(delay)))
