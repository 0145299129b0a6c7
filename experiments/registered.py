"""Rows of a study that are written down before they are run: fields of its ``Config``, in TOML."""

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UsageError, unknown_name


def read_rows(file: Path) -> Mapping[str, Mapping[str, Any]]:
    """Returns the rows of a file by name; lists are tuples, as a ``Config`` has them."""
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["row"]
    return {
        entry.pop("name"): {
            field: tuple(value) if isinstance(value, list) else value
            for field, value in entry.items()
        }
        for entry in entries
    }


def row_named(name: str | None, rows: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns what a row says; nothing if none is asked for.

    Raises:
        UsageError: there is no such row.
    """
    if name is None:
        return {}
    if name not in rows:
        raise UsageError(unknown_name("row", name, rows))
    return rows[name]


def check_apart(reported: Collection[int], tuning: Collection[int]) -> None:
    """Raises a ``UsageError`` if a seed is both for tuning and for reporting."""
    if both := set(reported) & set(tuning):
        raise UsageError(f"seeds {sorted(both)} are for tuning and for reporting")
