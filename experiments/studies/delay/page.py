"""The page on late gradients: what lateness costs, and what each arm gives back of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType

from experiments.formats import format_interval
from experiments.page import Column, Table, shortfall
from experiments.statistics import CONFIDENCE, mean_interval
from experiments.studies.delay.arms import ARMS, Setting
from experiments.studies.delay.ask import JUDGED, Config, Record
from experiments.studies.delay.figure import draw_delays
from experiments.studies.delay.shares import (
    SYNCHRONOUS,
    Cell,
    Share,
    best_is_inside,
    reported,
    shares,
)
from experiments.tasks import load_task

FIGURES = {"delays.png": draw_delays}

_LOSSES = {"train_loss": "training", "validation_loss": "validation"}
_MARKS = {"better": "*", "worse": "†"}


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    return {
        "shares": "\n\n".join(_share_sections(records, config)) or None,
        "validation": "\n\n".join(_share_sections(records, config, "validation_loss")) or None,
        "reached": _reached(records, config).markdown() if records else None,
        "outside": _outside(records),
        "arms": "\n".join(f"- `{arm}`: {ARMS[arm].summary}." for arm in config.arms),
        "seeds": len(config.seeds),
        "first_seed": config.seeds[0],
        "last_seed": config.seeds[-1],
        "tuning_seeds": ", ".join(map(str, config.tuning_seeds)),
        "batch_size": config.batch_size or load_task(config.task).protocol.batch_size,
        "protocol": load_task(config.task).protocol,
        "confidence": f"{CONFIDENCE:.0%}",
    }


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns the shares for the terminal, and what every arm reached."""
    parts = [
        table.terminal(
            f"{optimizer}: share of the loss due to lateness given back, {reference} [%]"
        )
        for optimizer, reference, table in _share_tables(records, config, JUDGED)
    ]
    return Group(*parts, _reached(records, config).terminal("Every arm"))


def notes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> Iterator[str]:
    """Yields what follows the tables on the terminal."""
    if missing := shortfall(meta):
        yield missing
    yield "* better, † worse than plain late training, by Holm over the table"
    if outside := _outside(records):
        yield outside


def _share_tables(
    records: Sequence[Record], config: Config, measure: str
) -> Iterator[tuple[str, str, Table]]:
    for optimizer in dict.fromkeys(record.optimizer for record in records):
        runs = reported(records, optimizer)
        for reference in SYNCHRONOUS:
            found = shares(runs, measure, reference)
            if found:
                yield optimizer, f"synchronous with {reference}", _share_table(found, config)


def _share_table(found: Mapping[Cell, Share], config: Config) -> Table:
    arms = [arm for arm in config.arms if any(cell[0] == arm for cell in found)]
    delays = [delay for delay in config.delays if any(cell[1] == delay for cell in found)]
    columns = [
        Column(f"τ = {delay}", lambda arm, at=delay: _share(found.get((arm, at))))
        for delay in delays
    ]
    return Table([Column("arm", str, left=True, no_wrap=True), *columns], arms)


def _share(share: Share | None) -> str:
    if share is None:
        return ""
    shown = format_interval(share.interval) if share.interval else "no loss"
    return shown + _MARKS.get(share.verdict, "")


def _share_sections(
    records: Sequence[Record], config: Config, measure: str = JUDGED
) -> Iterator[str]:
    for optimizer, reference, table in _share_tables(records, config, measure):
        yield f"### {optimizer}, against {reference}"
        yield table.markdown()


def _reached(records: Sequence[Record], config: Config) -> Table:
    metric = load_task(config.task).metric
    rows = [
        record
        for optimizer in dict.fromkeys(record.optimizer for record in records)
        for record in reported(records, optimizer).values()
    ]

    def measured(name: str) -> Any:
        return lambda record: format_interval(mean_interval(record.counted(name)))

    losses = [Column(f"{title} loss", measured(name)) for name, title in _LOSSES.items()]
    return Table(
        [
            Column("optimizer", lambda record: record.optimizer, left=True),
            Column("τ", lambda record: str(record.delay)),
            Column("arm", lambda record: record.arm, left=True, no_wrap=True),
            *losses,
            Column(metric.label, measured("validation_metric")),
            Column("diverged", lambda record: _diverged(record.diverged)),
            Column("rate", lambda record: f"{record.learning_rate:.3g}" + _edge(record, records)),
            Column("setting", lambda record: str(Setting(**record.setting)), left=True),
        ],
        rows,
    )


def _diverged(lost: Sequence[bool]) -> str:
    return f"{sum(lost)}/{len(lost)}" if any(lost) else ""


def _edge(record: Record, records: Sequence[Record]) -> str:
    return "" if best_is_inside(record, records, JUDGED) else " at the edge"


def _outside(records: Sequence[Record]) -> str | None:
    rows = [
        f"{run.optimizer} τ = {run.delay} {run.arm}"
        for optimizer in dict.fromkeys(record.optimizer for record in records)
        for run in reported(records, optimizer).values()
        if not best_is_inside(run, records, JUDGED)
    ]
    return f"The best rate is at the edge of its grid for {', '.join(rows)}." if rows else None
