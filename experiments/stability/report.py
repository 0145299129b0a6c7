"""The report of the command ``stability``: a table on the terminal and ``report.md``."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from experiments.arms import horizon_label
from experiments.folder import META_FILE, RUNS_FILE
from experiments.page import TABLE_STYLE, markdown_table
from experiments.provenance import describe_origin
from experiments.runs import shortfall
from experiments.stability.config import StabilityConfig
from experiments.stability.run import StabilityRecord

PICTURE_FILE = "limits.png"
CHOICE_FILE = "choice.png"

_HEADER = (
    "horizon",
    "predicted limit",
    "observed near the point",
    "observed / predicted",
    "largest error of the radius",
    "mini-batch training works up to",
    "that / predicted",
    "full batch: γh(1+2s), median (largest)",
)


def terminal_report(records: Sequence[StabilityRecord]) -> Table:
    """Returns the table for the terminal."""
    table = Table(title="Largest stable learning rates", **TABLE_STYLE)
    for title in _HEADER:
        table.add_column(title, justify="right")
    for record in records:
        table.add_row(*_cells(record))
    return table


def _cells(record: StabilityRecord) -> list[str]:
    limit = record.predicted_limit
    edge = [value for value in record.edge_sharpness if value is not None]
    lost = len(edge) < len(record.edge_sharpness)
    return [
        horizon_label(record.s),
        f"{limit:.4g}",
        _number(record.local_limit, ".4g"),
        _number(record.local_limit and record.local_limit / limit, ".3f"),
        _number(radius_error(record), ".1e"),
        _number(record.batch_limit, ".3g") + _beyond(record),
        _number(record.batch_limit and record.batch_limit / limit, ".2g"),
        f"{np.median(edge):.2f} ({max(edge):.2f})" + (", then overflows" if lost else "")
        if edge
        else "overflows",
    ]


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _beyond(record: StabilityRecord) -> str:
    never = record.batch_fails and not any(record.batch_fails)
    return " or more" if never else ""


def radius_error(record: StabilityRecord) -> float | None:
    """The largest difference between the predicted and the measured spectral radius."""
    pairs = zip(record.local_predicted, record.local_measured, strict=True)
    errors = [abs(p - m) for p, m in pairs if m is not None]
    return max(errors, default=None)


def notes(config: StabilityConfig, meta: dict[str, Any]) -> Iterator[str]:
    """Yields what follows the table on the terminal."""
    if missing := shortfall("horizons", meta):
        yield missing
    yield f"predicted: 2(1 + μ) / (h(1 + 2s)) with μ = {config.momentum:g}"


def markdown_report(
    records: Sequence[StabilityRecord], config: StabilityConfig, meta: dict[str, Any]
) -> str:
    """Returns the text of ``report.md``.

    Args:
        records: the horizons that finished.
        config: what was asked for.
        meta: the contents of ``meta.json``.

    Returns:
        Markdown.
    """
    return "\n".join(_markdown_lines(records, config, meta)) + "\n"


def _markdown_lines(
    records: Sequence[StabilityRecord], config: StabilityConfig, meta: dict[str, Any]
) -> Iterator[str]:
    scale = config.scale
    yield f"# Stability of SGDM with weight prediction on {config.problem}"
    yield f"\n{describe_origin(meta)}"
    if missing := shortfall("horizons", meta):
        yield f"\n**Note:** {missing}."
    if records:
        yield f"\n![Predicted and observed limits]({PICTURE_FILE})"
        yield "\n## Limits\n"
        yield from markdown_table(_HEADER, map(_cells, records))
        yield "\n## Near the point: spectral radius, predicted / measured\n"
        factors = [f"{factor:g}" for factor in records[0].local_factors]
        yield from markdown_table(["γ / predicted limit", *factors], map(_radii, records))
    yield "\n## How to read this\n"
    yield (
        f"- Predicted: 2(1 + μ) / (h(1 + 2s)), μ = {config.momentum:g}, with the largest "
        "eigenvalue h of the Hessian over all training examples, by Lanczos iterations"
        + (f": h = {records[0].curvature:.4g}." if records else ".")
    )
    yield (
        f"- Near the point: after {scale.warmup_steps} full-batch steps of plain SGDM "
        f"(γ = {scale.warmup_rate:g}) the slope is subtracted from the loss, so that the point is "
        "stationary, and the optimizer starts a little off it, along the sharpest direction. The "
        "measured radius is that of the recurrence fitted to its displacements, "
        f"{scale.local_steps} full-batch steps; the observed limit is where it crosses 1, between "
        "the learning rates of the table. This is what the quadratic model is about."
    )
    if scale.batch_steps:
        yield (
            f"- Mini-batch training starts at random parameters, {scale.batch_steps} steps, and "
            "fails if the loss ends above 0.9 of where it began; learning rates are the multiples "
            "of the predicted limit that are in the records. The curvature there is another than "
            "at the point and depends on the learning rate: the formula gives a trend, no value."
        )
    yield (
        f"- Full batch: training from random parameters at γ = {scale.edge_rate:g} for every s, "
        f"{scale.edge_steps} steps; the sharpness h is measured every {scale.edge_every}. The "
        f"quadratic model is stable while γh(1 + 2s) < 2(1 + μ) = {2 * (1 + config.momentum):g}."
    )
    yield f"\n## What the quadratic model says about s\n\n![Best horizons]({CHOICE_FILE})"
    yield f"\nEvery figure: `{RUNS_FILE}`; versions, device, date and commit: `{META_FILE}`."


def _radii(record: StabilityRecord) -> list[str]:
    pairs = zip(record.local_predicted, record.local_measured, strict=True)
    return [
        horizon_label(record.s),
        *(f"{predicted:.3f} / {_number(measured, '.3f')}" for predicted, measured in pairs),
    ]
