"""The page on the schedule: how many all-reduces run under matrix products, and when."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from experiments.compilers.targets import TARGETS
from experiments.formats import format_bytes
from experiments.page import Column, Table
from experiments.studies.overlap.ask import STEPS, Config, Record
from experiments.studies.overlap.figure import draw_schedule

FIGURES = {"schedule.png": draw_schedule}


def _overlapping(record: Record) -> str:
    return f"{record.overlapping_products} of {record.products}"


_COLUMNS = (
    Column("examples per device", lambda record: str(record.batch_size)),
    Column("step", lambda record: record.step, left=True),
    Column("all-reduces", lambda record: str(record.all_reduces)),
    Column("of this step's batch", lambda record: str(record.of_this_batch)),
    Column("under matrix products", lambda record: str(record.under_products)),
    Column("products that run over them", _overlapping),
    Column("temporaries", lambda record: format_bytes(record.temporary)),
)


def tables(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> RenderableType:
    """Returns the table for the terminal."""
    title = f"All-reduces on eight devices, compiled for {TARGETS[config.target].summary}"
    return Table(_COLUMNS, records).terminal(title, section=lambda record: record.batch_size)


def holes(records: Sequence[Record], config: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what fills ``page.md``."""
    return {
        "device": TARGETS[config.target].summary,
        "compiler": ", ".join(dict.fromkeys(record.compiler for record in records)),
        "table": Table(_COLUMNS, records).markdown(),
        "steps": "\n".join(f"- *{step}*: {STEPS[step]}." for step in config.steps),
    }
