"""One run of a command that is not a study yet, see ``study.py``."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from experiments import study
from experiments.folder import REPORT_FILE
from experiments.page import print_plain, report_console
from experiments.page import shortfall as shortfall_of
from experiments.progress import Progress

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def run_all(
    items: Sequence[study.Item],
    work: Callable[[study.Item], list[study.Record]],
    *,
    name: Callable[[study.Item], str],
    noun: str,
    folder: Path,
    configuration: "DataclassInstance",
) -> tuple[list[study.Record], dict[str, Any]]:
    """Does the work on every item, see :func:`experiments.study.run_all`."""
    progress = Progress(noun, name)
    return study.run_all(items, work, folder, dataclasses.asdict(configuration), progress)


def publish(folder: Path, report: str, tables: RenderableType | None, notes: Iterable[str]) -> None:
    """Writes ``report.md`` and shows on the terminal what it says."""
    (folder / REPORT_FILE).write_text(report, encoding="utf-8")
    console = report_console()
    if tables:
        console.print(tables)
    for note in [*notes, f"results are in {folder}"]:
        print_plain(console, note)


def shortfall(noun: str, meta: dict[str, Any]) -> str:
    """Returns how many items an interrupted run finished, or nothing."""
    del noun
    return shortfall_of(meta)
