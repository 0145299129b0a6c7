"""The run folder: what a run leaves behind, written as soon as it is known."""

import contextlib
import dataclasses
import datetime
import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RUNS_FILE = "runs.jsonl"
META_FILE = "meta.json"
REPORT_FILE = "report.md"

# What reports end with, where they lie beside both files.
FILES_NOTE = f"Versions, device, date and commit: `{META_FILE}`; every figure: `{RUNS_FILE}`."


def new_folder(output: Path | None, name: str) -> Path:
    """Creates the folder for a run's results and an empty ``runs.jsonl`` in it.

    Args:
        output: a new or empty folder, None for a new one below ``runs``.
        name: what a new folder's name begins with.

    Returns:
        The folder.

    Raises:
        UsageError: the folder cannot be written to, or already holds something.
    """
    check_unused(output)
    folder = _unused_name(name) if output is None else output
    with _explained(output):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RUNS_FILE).touch(exist_ok=False)
    return folder


def check_unused(output: Path | None) -> None:
    """Raises a ``UsageError`` where :func:`new_folder` would; creates nothing."""
    check_writable(output or Path("runs"))
    if output is not None and output.exists() and any(output.iterdir()):
        raise UsageError(
            f"folder {str(output)!r} is not empty and nothing is overwritten; "
            "give --output a new or empty folder, or leave it out"
        )


def check_writable(folder: Path) -> None:
    """Raises a ``UsageError`` if a folder can neither be written to nor made; creates nothing."""
    with _explained(folder):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass


@contextlib.contextmanager
def _explained(folder: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot write to folder {str(folder or 'runs')!r} ({error.strerror}); "
            "give --output a folder that can be created or is empty and writable"
        ) from error


def _unused_name(name: str) -> Path:
    stem = Path("runs", f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    numbered = (stem.with_name(f"{stem.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([stem], numbered) if not folder.exists())


def append_records(file: Path, records: Iterable["DataclassInstance"]) -> None:
    """Appends dataclasses to a file, one a line: a later interruption cannot lose them.

    The file and its folder are made if need be.

    All or nothing: lines that the disk has no room for are taken back.

    Raises:
        OSError: they could not be written.
    """
    lines = [json.dumps(dataclasses.asdict(record), allow_nan=False) for record in records]
    text = "".join(f"{line}\n" for line in lines).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    # Without a buffer, which would write what is left of a line once more when it is closed.
    with file.open("ab", buffering=0) as opened:
        before = opened.seek(0, os.SEEK_END)
        try:
            while text:
                text = text[opened.write(text) :]  # a disk that fills up takes a part
        except OSError:
            opened.truncate(before)
            raise


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Writes ``meta.json``: what is being run, or how that went."""
    text = json.dumps(meta, indent=2, allow_nan=False)
    (folder / META_FILE).write_text(f"{text}\n", encoding="utf-8")


def number(value: Any, digits: int | None = None) -> float | None:
    """Returns a number as records keep it: JSON has none that are not finite, hence None.

    Args:
        value: a number of any type.
        digits: how many are kept; by default the fewest that give the number back in its own type:
            a float32 is not written with the 17 digits of a float64.
    """
    if not math.isfinite(value):
        return None
    return float(str(value) if digits is None else f"{value:.{digits}g}")
