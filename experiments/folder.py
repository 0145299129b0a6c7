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
    try:
        folder = _unused_name(name) if output is None else output
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(
                f"folder {str(folder)!r} is not empty and nothing is overwritten; "
                "give --output a new or empty folder, or leave it out"
            )
        (folder / RUNS_FILE).touch(exist_ok=False)
    except OSError as error:
        raise UsageError(
            f"cannot write to folder {str(output or 'runs')!r} ({error.strerror}); "
            "give --output a folder that can be created or is empty and writable"
        ) from error
    return folder


def check_writable(folder: Path) -> None:
    """Creates a folder if need be; a ``UsageError`` says if nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write to folder {str(folder)!r} ({error.strerror}); give --output another"
        ) from error


def _unused_name(name: str) -> Path:
    stem = Path("runs", f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}")
    numbered = (stem.with_name(f"{stem.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([stem], numbered) if not folder.exists())


@contextlib.contextmanager
def withdraw(folder: Path) -> Iterator[None]:
    """Takes a new folder back if the block fails: nothing is left of what cannot be done."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # what somebody else has put there stays
            (folder / RUNS_FILE).unlink()
            folder.rmdir()
        raise


def append_records(file: Path, records: Iterable["DataclassInstance"]) -> None:
    """Appends dataclasses to a file, one a line: a later interruption cannot lose them.

    All or nothing: lines that the disk has no room for are taken back.

    Raises:
        OSError: they could not be written.
    """
    lines = [json.dumps(dataclasses.asdict(record), allow_nan=False) for record in records]
    text = "".join(f"{line}\n" for line in lines).encode()
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
