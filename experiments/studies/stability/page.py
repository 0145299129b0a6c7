"""The page on limits: what the formula says of each horizon, and what was observed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import RenderableType

from experiments.arms import horizon_label
from experiments.formats import format_optional
from experiments.page import Column, Table, shortfall
from experiments.studies.stability.ask import Config, Record
from experiments.studies.stability.figures import draw_choice, draw_late, draw_limits

FIGURES = {"limits.png": draw_limits, "choice.png": draw_choice, "late.png": draw_late}


def _observed(record: Record) -> str:
    return format_optional(record.local_limit, ".4g")


def _observed_share(record: Record) -> str:
    share = record.local_limit and record.local_limit / record.predicted_limit
    return format_optional(share, ".3f")


def _batch(record: Record) -> str:
    never_failed = record.batch_fails and not any(record.batch_fails)
    return format_optional(record.batch_limit, ".3g") + (" or more" if never_failed else "")


def _batch_share(record: Record) -> str:
    share = record.batch_limit and record.batch_limit / record.predicted_limit
    return format_optional(share, ".2g")


def _edge(record: Record) -> str:
    edge = [value for value in record.edge_sharpness if value is not None]
    if not edge:
        return "overflows"
    lost = ", then overflows" if len(edge) < len(record.edge_sharpness) else ""
    return f"{np.median(edge):.2f} ({max(edge):.2f}){lost}"


def radius_error(record: Record) -> float | None:
    """The largest difference between the predicted and the measured spectral radius."""
    pairs = zip(record.local_predicted, record.local_measured, strict=True)
    errors = [abs(p - m) for p, m in pairs if m is not None]
    return max(errors, default=None)


_LIMITS = (
    Column("horizon", lambda record: horizon_label(record.s)),
    Column("predicted limit", lambda record: f"{record.predicted_limit:.4g}"),
    Column("observed near the point", _observed),
    Column("observed / predicted", _observed_share),
    Column(
        "largest error of the radius", lambda record: format_optional(radius_error(record), ".1e")
    ),
    Column("mini-batch training works up to", _batch),
    Column("that / predicted", _batch_share),
    Column("full batch: γh(1+2s), median (largest)", _edge),
)


def _radii(records: Sequence[Record]) -> Table:
    def cell(place: int) -> Callable[[Record], str]:
        return lambda record: (
            f"{record.local_predicted[place]:.3f} / "
            f"{format_optional(record.local_measured[place], '.3f')}"
        )

    factors = [
        Column(f"{factor:g}", cell(place)) for place, factor in enumerate(records[0].local_factors)
    ]
    return Table([Column("γ / predicted limit", lambda r: horizon_label(r.s)), *factors], records)


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns the table for the terminal."""
    return Table(_LIMITS, records).terminal("Largest stable learning rates")


def notes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> Iterator[str]:
    """Yields what follows the table on the terminal."""
    if missing := shortfall(meta):
        yield missing
    yield f"predicted: 2(1 + μ) / (h(1 + 2s)) with μ = {config.momentum:g}"


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    return {
        "limits": Table(_LIMITS, records).markdown() if records else None,
        "radii": _radii(records).markdown() if records else None,
        "curvature": f": h = {records[0].curvature:.4g}" if records else "",
        "scale": config.scale,
        "batch_steps": config.scale.batch_steps or None,
        "edge": 2 * (1 + config.momentum),
    }
