"""The page on pipelines: every arm, what is tested, and what two schedules cost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from experiments.formats import format_bytes, format_interval
from experiments.page import Column, Table, shortfall
from experiments.statistics import CONFIDENCE, mean_interval
from experiments.studies.pipeline import counts, theory
from experiments.studies.pipeline.arms import ARMS, Setting
from experiments.studies.pipeline.ask import Config, Record
from experiments.studies.pipeline.figure import draw_losses
from experiments.studies.pipeline.networks import NETWORKS
from experiments.studies.pipeline.theory_figure import draw_landscapes
from experiments.studies.pipeline.verdicts import best_is_inside, reported, verdicts
from experiments.tested import verdict_columns

FIGURES = {"pipeline.png": draw_losses, "stable.png": draw_landscapes}

_STAGES = (2, 4, 8, 16, 32, 64)
_EXAMPLE = {"input_size": 4 * 32 * 64, "weights_size": 4 * (2 * 64 * 64 + 64)}
"""One micro-batch's input and one block of the network here, in bytes."""


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    network = NETWORKS[config.network]
    return {
        "network": network.summary.capitalize(),
        "measured": network.measured or "all",
        "reached": _reached(records).markdown() if records else None,
        "verdicts": _tested(records).markdown() if verdicts(records) else None,
        "outside": _outside(records),
        "counts": _counted().markdown(),
        "stable": _stable().markdown(),
        "arms": "\n".join(f"- `{arm}`: {ARMS[arm].summary}." for arm in config.arms),
        "tested_seeds": len(config.seeds) if verdicts(records) else None,
        "first_seed": config.seeds[0],
        "last_seed": config.seeds[-1],
        "tuning_seeds": ", ".join(map(str, config.tuning_seeds)),
        "filling": 2 * (config.stages - 1),
        "confidence": f"{CONFIDENCE:.0%}",
    }


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns what every arm reached and what is tested, for the terminal."""
    title = f"{config.optimizer}, {config.stages} stages, {config.ticks} ticks"
    parts = [_reached(records).terminal(title)]
    if verdicts(records):
        parts.append(_tested(records).terminal("Training losses, paired by seed"))
    return Group(*parts)


def notes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> Iterator[str]:
    """Yields what follows the tables on the terminal."""
    if missing := shortfall(meta):
        yield missing
    if outside := _outside(records):
        yield outside


def _reached(records: Sequence[Record]) -> Table:
    def measured(name: str) -> Any:
        return lambda run: format_interval(mean_interval(run.counted(name)))

    columns = [
        Column("arm", lambda run: run.arm, left=True, no_wrap=True),
        Column("training loss", measured("train_loss")),
        Column("validation loss", measured("validation_loss")),
        Column("accuracy", measured("accuracy")),
        Column("diverged", lambda run: _lost(run.diverged)),
        Column("rate", lambda run: f"{run.learning_rate:.3g}" + _edge(run, records)),
        Column("setting", lambda run: str(Setting(**run.setting)), left=True),
    ]
    return Table(columns, list(reported(records).values()))


def _lost(diverged: Sequence[bool]) -> str:
    return f"{sum(diverged)}/{len(diverged)}" if any(diverged) else ""


def _edge(run: Record, records: Sequence[Record]) -> str:
    return "" if best_is_inside(run, records) else " at the edge"


def _outside(records: Sequence[Record]) -> str | None:
    arms = [arm for arm, run in reported(records).items() if not best_is_inside(run, records)]
    return f"The best rate is at the edge of its grid for {', '.join(arms)}." if arms else None


def _tested(records: Sequence[Record]) -> Table:
    return Table(verdict_columns(), verdicts(records))


def _counted() -> Table:
    """Both schedules by number of stages."""

    def flushed(times: int) -> Column:
        def cell(stages: int) -> str:
            share = counts.flushed_busy_share(stages, times * stages)
            return f"{share:.0%}, {_size(counts.flushed_kept(times * stages))}"

        return Column(f"GPipe m = {times if times > 1 else ''}P: busy, kept", cell)

    def never(stash: bool) -> Column:
        name = "weights stashed" if stash else "not stashed"
        return Column(
            f"never waits, {name}: kept",
            lambda stages: _size(counts.kept(stages, stash=stash)),
        )

    busy = Column(
        "never waits: busy, 1000 ticks", lambda stages: f"{counts.busy_share(stages, 1000):.1%}"
    )
    columns = [Column("P", str), flushed(1), flushed(4), busy, never(True), never(False)]
    return Table(columns, _STAGES)


def _stable() -> Table:
    """The largest stable rates of four stages, by coupling."""
    found = {coupling: theory.of_four(coupling) for coupling in theory.COUPLINGS}

    def rate(rule: str) -> Column:
        return Column(rule, lambda coupling: f"{found[coupling][rule]:.3f}")

    horizons = Column("at", lambda c: " ".join(f"{s:g}" for s in theory.FOUND[c]), left=True)
    rules = map(rate, next(iter(found.values())))
    return Table([Column("c", "{:g}".format), *rules, horizons], theory.COUPLINGS)


def _size(kept: counts.Kept) -> str:
    return format_bytes(kept.bytes(**_EXAMPLE))
