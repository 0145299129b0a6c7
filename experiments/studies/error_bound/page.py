"""The page on bounds: how much larger than the error they are, by steps ahead, and why."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Group, RenderableType

from experiments.arms import horizon_label
from experiments.compared import grouped
from experiments.page import Column, Table
from experiments.statistics import mean_interval
from experiments.studies.error_bound.ask import HESSIAN, PARTS, VISITED, Config, Record
from experiments.studies.error_bound.figure import draw_ratios, ratios

FIGURES = {"ratios.png": draw_ratios}

_LARGEST = 1e4  # what is above says no more than that
_NONE, _UNKNOWN = "none", "–"
_OF_STEPS = {"lower quartile": 0.25, "median": 0.5, "upper quartile": 0.75}


class _Row(NamedTuple):
    """One kind of training, all seeds."""

    runs: Sequence[Record]

    def values(self, read: Callable[[Record], Any]) -> np.ndarray:
        """``[seeds, points, horizons]``; NaN for what was not finite."""
        return np.array([np.array(read(run), float) for run in self.runs])

    def errors(self) -> np.ndarray:
        return self.values(lambda run: run.error)

    def moved(self) -> np.ndarray:
        return self.values(lambda run: run.moved)

    def bound(self, chosen: str) -> np.ndarray:
        return self.values(lambda run: run.bounds[chosen])


def _rows(records: Sequence[Record]) -> list[_Row]:
    groups = grouped(records, lambda run: (run.optimizer, run.batches, run.s))
    return list(map(_Row, groups.values()))


_ARM = (
    Column("optimizer", lambda row: row.runs[0].optimizer, left=True),
    Column("batches", lambda row: row.runs[0].batches, left=True),
    Column("trained with", lambda row: horizon_label(row.runs[0].s), left=True),
)


def _ends(config: Config) -> dict[int, int]:
    """Where the shortest and the longest horizon are."""
    return {config.horizons[place]: place for place in (0, len(config.horizons) - 1)}


def _ratio_table(
    chosen: str, records: Sequence[Record], config: Config, places: Iterable[int] | None = None
) -> Table:
    """Bound over actual error: the median over steps, at all horizons or those at some places."""

    def cell(place: int) -> Callable[[_Row], str]:
        return lambda row: _format_ratios(row, chosen, 1, place)

    places = range(len(config.horizons)) if places is None else places
    columns = [Column(f"{config.horizons[place]} ahead", cell(place)) for place in places]
    return Table([*_ARM, *columns], _rows(records))


def _spread_table(records: Sequence[Record], config: Config) -> Table:
    """Quartiles over steps, at the shortest and the longest horizon."""

    def cell(place: int, quartile: int) -> Callable[[_Row], str]:
        return lambda row: _format_ratios(row, VISITED, quartile, place)

    columns = [
        Column(f"{h} ahead, {name}", cell(place, quartile))
        for h, place in _ends(config).items()
        for quartile, name in enumerate(_OF_STEPS)
    ]
    return Table([*_ARM, *columns], _rows(records))


def _use_table(records: Sequence[Record], config: Config) -> Table:
    """What bounds are worth: against no prediction, and with the Hessian's smoothness."""

    def relative(place: int) -> Callable[[_Row], str]:
        def cell(row: _Row) -> str:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = row.errors()[..., place] / row.moved()[..., place]
            return _finite(np.median(ratio, axis=-1).mean(), "{:.3f}".format)

        return cell

    def useful(chosen: str) -> Callable[[int], Callable[[_Row], str]]:
        return lambda place: (
            lambda row: _below(row.bound(chosen)[..., place], row.moved()[..., place])
        )

    def broken(place: int) -> Callable[[_Row], str]:
        return lambda row: _below(row.bound(HESSIAN)[..., place], row.errors()[..., place])

    columns = [
        Column(f"{title}, {h} ahead", measure(place))
        for title, measure in (
            ("error over distance moved", relative),
            ("bound below distance moved", useful(VISITED)),
            ("Hessian's bound below distance moved", useful(HESSIAN)),
            ("Hessian's bound below error", broken),
        )
        for h, place in _ends(config).items()
    ]
    smoothness = [Column(f"L, {chosen}", _smoothness(chosen)) for chosen in (VISITED, HESSIAN)]
    return Table([*_ARM, *columns, *smoothness], _rows(records))


def _smoothness(chosen: str) -> Callable[[_Row], str]:
    def cell(row: _Row) -> str:
        values = row.values(lambda run: run.smoothness[chosen])
        return _finite(np.median(values), lambda median: _rounded(median, 3))

    return cell


def _parts_table(records: Sequence[Record], config: Config) -> Table:
    """What each part adds to the bound, in percent, at the shortest and the longest horizon."""

    def cell(name: str, place: int) -> Callable[[_Row], str]:
        def text(row: _Row) -> str:
            part = row.values(lambda run: run.parts[name])[..., place]
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.median(part / row.bound(VISITED)[..., place])
            return _finite(100 * share, "{:.0f} %".format)

        return text

    columns = [
        Column(f"{h} ahead, {name}", cell(name, place))
        for h, place in _ends(config).items()
        for name in PARTS
    ]
    return Table([*_ARM, *columns], _rows(records))


def _below(bound: np.ndarray, values: np.ndarray) -> str:
    """How often a bound is below values; one that is not finite is not."""
    if not np.isfinite(values).all():
        return _UNKNOWN
    return f"{100 * (bound < values).mean():.0f} %"


def _finite(value: float, text: Callable[[float], str]) -> str:
    return text(float(value)) if np.isfinite(value) else _UNKNOWN


def _format_ratios(row: _Row, chosen: str, quartile: int, place: int) -> str:
    """Formats a quartile over steps: its geometric mean over seeds and the interval."""
    values = np.array([ratios(run, chosen)[quartile, place] for run in row.runs])
    if not np.isfinite(values).all():
        return _NONE
    mean, half_width = mean_interval(np.log(values))
    if np.exp(mean) > _LARGEST:
        return f"above {_LARGEST:,.0f}"
    text = _rounded(np.exp(mean), 3)
    if not np.isfinite(half_width):
        return text
    low, high = (_rounded(np.exp(mean + sign * half_width), 2) for sign in (-1, 1))
    return f"{text} [{low}, {high}]"


def _rounded(value: float, digits: int) -> str:
    return f"{float(f'{value:.{digits}g}'):,g}"


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns the tables for the terminal."""
    ends = _ends(config).values()
    titles = {VISITED: "L of the places visited", HESSIAN: "L of the Hessian at the step"}
    return Group(
        *(
            _ratio_table(chosen, records, config, ends).terminal(
                f"bound over actual error, {title}"
            )
            for chosen, title in titles.items()
        ),
    )


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    shown = {
        "visited": _ratio_table(VISITED, records, config),
        "hessian": _ratio_table(HESSIAN, records, config),
        "spread": _spread_table(records, config),
        "use": _use_table(records, config),
        "parts": _parts_table(records, config),
    }
    return {
        **{name: table.markdown() if records else None for name, table in shown.items()},
        "none": _NONE,
        "unknown": _UNKNOWN,
        "meanings": "; ".join(f"*{name}*, {meaning}" for name, meaning in PARTS.items()),
        "seeds": ", ".join(map(str, config.seeds)),
        "last_step": 1 + (config.points - 1) * config.every,
    }
