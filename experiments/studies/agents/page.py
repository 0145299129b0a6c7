"""The page on agents: what every arm returned, and what is tested."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from experiments.formats import format_interval
from experiments.page import Column, Table, shortfall
from experiments.statistics import CONFIDENCE, mean_interval
from experiments.studies.agents.ask import MEASURES, Config, Record
from experiments.studies.agents.figure import draw_returns
from experiments.studies.agents.verdicts import best_is_inside, reported, verdicts
from experiments.tested import verdict_columns

FIGURES = {"returns.png": draw_returns}


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    return {
        "reached": _reached(records, config).markdown() if records else None,
        "verdicts": _tested(records).markdown() if verdicts(records) else None,
        "outside": _outside(records, config),
        "tested_seeds": len(config.seeds) if verdicts(records) else None,
        "first_seed": config.seeds[0],
        "last_seed": config.seeds[-1],
        "first_tuning_seed": config.tuning_seeds[0],
        "last_tuning_seed": config.tuning_seeds[-1],
        "tuning_seeds": len(config.tuning_seeds),
        "batch": config.actors * config.steps,
        "minibatch": config.actors * config.steps // config.minibatches,
        "hidden": " and ".join(map(str, config.hidden)),
        "confidence": f"{CONFIDENCE:.0%}",
    }


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns what every arm returned and what is tested, for the terminal."""
    title = f"{config.environment}, {config.updates} updates, {len(config.seeds)} seeds"
    parts = [_reached(records, config).terminal(title)]
    if verdicts(records):
        parts.append(_tested(records).terminal("Returns, paired by seed"))
    return Group(*parts)


def notes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> Iterator[str]:
    """Yields what follows the tables on the terminal."""
    if missing := shortfall(meta):
        yield missing
    if outside := _outside(records, config):
        yield outside


def _reached(records: Sequence[Record], config: Config) -> Table:
    def measured(name: str) -> Any:
        return lambda run: format_interval(mean_interval(getattr(run, name)))

    def rate(run: Record) -> str:
        edge = "" if best_is_inside(run, records, config) else " at the edge"
        return f"{run.learning_rate:.3g}{edge}"

    columns = [
        Column("arm", lambda run: run.arm, left=True, no_wrap=True),
        *(Column(title, measured(name)) for name, title in MEASURES.items()),
        Column("diverged", lambda run: _lost(run.diverged)),
        Column("rate", rate),
    ]
    return Table(columns, list(reported(records).values()))


def _lost(diverged: Sequence[bool]) -> str:
    return f"{sum(diverged)}/{len(diverged)}" if any(diverged) else ""


def _outside(records: Sequence[Record], config: Config) -> str | None:
    arms = [
        arm for arm, run in reported(records).items() if not best_is_inside(run, records, config)
    ]
    return f"The best rate is at the edge of its grid for {', '.join(arms)}." if arms else None


def _tested(records: Sequence[Record]) -> Table:
    columns = [
        Column("measure", lambda verdict: MEASURES[verdict.measure], left=True),
        *verdict_columns(),
    ]
    return Table(columns, verdicts(records))
