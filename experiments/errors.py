"""The one error that the command line turns into a line of text instead of a traceback."""

from collections.abc import Iterable


class UsageError(Exception):
    """Something the caller asked for cannot be done; the message says what can."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """Returns the message for a name that does not exist, listing the ones that do."""
    return f"unknown {kind} {name!r}; valid: {', '.join(valid)}"
