"""One run of anything: item by item, each kept as soon as it is finished, Ctrl-C included."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console, RenderableType

from experiments.progress import track
from experiments.results import REPORT_FILE, append_records, recorded
from experiments.tables import print_plain, report_console

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Item = TypeVar("Item")
Record = TypeVar("Record", bound="DataclassInstance")


def run_all(
    items: Sequence[Item],
    work: Callable[[Item], list[Record]],
    *,
    name: Callable[[Item], str],
    noun: str,
    folder: Path,
    configuration: "DataclassInstance",
) -> tuple[list[Record], dict[str, Any]]:
    """Does the work on every item; what is finished is on disk before the next begins.

    Args:
        items: what there is to do.
        work: does one item and returns its records.
        name: how an item is shown.
        noun: what the items are, in the plural.
        folder: where the records go.
        configuration: what was asked for.

    Returns:
        The records of all finished items and the contents of ``meta.json``, whose ``status`` is
        ``"complete"``, or ``"interrupted"`` after Ctrl-C.
    """
    records: list[Record] = []
    with recorded(folder, configuration) as meta:
        meta |= {f"{noun}_finished": 0, f"{noun}_planned": len(items)}
        with contextlib.closing(track(items, name, noun, Console(stderr=True))) as tracked:
            for item in tracked:
                finished = work(item)
                append_records(folder, finished)
                records += finished
                meta[f"{noun}_finished"] += 1
    return records, meta


def publish(folder: Path, report: str, tables: RenderableType | None, notes: Iterable[str]) -> None:
    """Writes ``report.md`` and shows on the terminal what it says.

    Args:
        folder: the run's folder.
        report: the text of the report.
        tables: its short form, None if there is nothing to show.
        notes: lines that follow the tables.
    """
    (folder / REPORT_FILE).write_text(report, encoding="utf-8")
    console = report_console()
    if tables:
        console.print(tables)
    for note in [*notes, f"results are in {folder}"]:
        print_plain(console, note)


def shortfall(noun: str, meta: dict[str, Any]) -> str:
    """Returns how many items an interrupted run finished, or nothing."""
    finished, planned = meta[f"{noun}_finished"], meta[f"{noun}_planned"]
    return "" if finished == planned else f"interrupted, {finished}/{planned} {noun}"
