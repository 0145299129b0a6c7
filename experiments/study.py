"""THE way an experiment runs: configuration, folder, items, records, page, Ctrl-C, ``meta.json``.

A study is a folder in ``studies/`` of four files:

- ``ask.py``, without JAX: ``Config`` (see ``options.py``) with a method ``items``, the dataclass of
  the records, and ``STUDY``;
- ``work.py``: ``prepare(config, progress)`` loads what is needed, or says what is missing, and
  returns the function from an item to its records;
- ``page.py`` and ``page.md``, see ``page.py`` beside this file.

The command line finds the folder.
"""

import contextlib
import dataclasses
import importlib
import os
import pkgutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from experiments.folder import RUNS_FILE, append_records, check_unused, new_folder, write_meta
from experiments.options import Parser, add_options, read_options, recorded
from experiments.provenance import describe_environment

if TYPE_CHECKING:
    import argparse

    from _typeshed import DataclassInstance

    from experiments.progress import Progress

Item = TypeVar("Item")
Record = TypeVar("Record", bound="DataclassInstance")

BAD_USAGE = 2
INTERRUPTED = 130  # what shells report after Ctrl-C: 128 + SIGINT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A command of ``python -m experiments``.

    Attributes:
        name: how it is called.
        summary: one line for the list of commands.
        about: what ``--help`` says before the options.
        config: the dataclass of its options.
        run: ``"module:function"`` that gets the configuration and returns the exit status;
            imported when it is called.
        place: among the commands in ``--help``; equal places follow each other by name.
        listing: the lines that it adds to ``list``.
    """

    name: str
    summary: str
    about: str
    config: type
    run: str = ""
    place: int = 100
    listing: Callable[[], Iterable[str]] = tuple

    def add_to(self, commands: "argparse._SubParsersAction[Parser]") -> None:
        """Makes the command known to a parser."""
        parser = commands.add_parser(
            self.name, help=self.summary, description=self.about, allow_abbrev=False
        )
        add_options(parser, self.config)
        parser.set_defaults(
            command=lambda arguments: self.call(read_options(self.config, arguments))
        )

    def call(self, config: Any) -> int:
        """Does what was asked for; returns the exit status."""
        return pkgutil.resolve_name(self.run)(config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(Command):
    """An experiment: items that leave records, and a page about them.

    Attributes:
        noun: what its items are, in the plural.
        item_name: how progress shows an item.
        folder: what a new run folder's name begins with; may have holes for the configuration,
            as in ``"compare-{task}"``.
    """

    noun: str = "arms"
    item_name: Callable[[Any], str] = str
    folder: str

    def part(self, name: str) -> Any:
        """Imports a module of the study's folder: only now, so that help costs nothing."""
        package = self.config.__module__.rpartition(".")[0]
        return importlib.import_module(f"{package}.{name}")

    def call(self, config: Any) -> int:
        """Runs the experiment."""
        return run(self, config)


def run(study: Study, config: Any) -> int:
    """Runs a study as configured; what is finished when Ctrl-C comes is kept and reported.

    Returns:
        The exit status: 0, or 130 after Ctrl-C.

    Raises:
        UsageError: something that was asked for cannot be done; then no folder is made.
    """
    from experiments.page import publish
    from experiments.progress import Progress

    check_unused(config.output)
    progress = Progress(study.noun, study.item_name)
    work, page = study.part("work").prepare(config, progress), study.part("page")
    items = list(config.items())
    meta = plan(items, progress.noun, recorded(config))  # takes a while: before there is a folder
    folder = new_folder(config.output, study.folder.format_map(vars(config)))
    records = run_all(items, work, folder, meta, progress)
    publish(folder, page, records, config, meta)
    return 0 if meta["status"] == "complete" else INTERRUPTED


def plan(items: Sequence[Any], noun: str, configuration: dict[str, Any]) -> dict[str, Any]:
    """Returns what ``meta.json`` says before anything has run."""
    meta = {"status": "running", "configuration": configuration, **describe_environment()}
    return meta | {f"{noun}_finished": 0, f"{noun}_planned": len(items)}


def run_all(
    items: Sequence[Item],
    work: Callable[[Item], list[Record]],
    folder: Path,
    meta: dict[str, Any],
    progress: "Progress",
) -> list[Record]:
    """Does the work on every item; what is finished is on disk before the next begins.

    Args:
        items: what there is to do.
        work: does one item and returns its records.
        folder: where the records and ``meta.json`` go.
        meta: the contents of ``meta.json``, see :func:`plan`; kept up to date. Its ``status``
            becomes ``"complete"``, ``"interrupted"`` after Ctrl-C, or ``"failed"`` by an error.
        progress: shows how far it has come.

    Returns:
        The records of all finished items.
    """
    records, start = [], time.monotonic()
    running, meta["status"] = dict(meta), "failed"
    try:
        write_meta(folder, running)  # even a killed run says what it was
        with contextlib.closing(progress.through(items)) as shown:
            for item in shown:
                finished = work(item)
                append_records(folder / RUNS_FILE, finished)
                records += finished
                meta[f"{progress.noun}_finished"] += 1
        meta["status"] = "complete"
    except KeyboardInterrupt:
        meta["status"] = "interrupted"
    finally:
        meta["wall_seconds"] = round(time.monotonic() - start, 1)
        write_meta(folder, meta)
    return records


def leave(status: int) -> NoReturn:
    """Ends the process; after Ctrl-C at once, with what has been written.

    Ctrl-C comes back from waiting for a compiled call and leaves the call running, and a thread may
    be compiling. Either would crash in an interpreter that shuts down around it.
    """
    if status == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
