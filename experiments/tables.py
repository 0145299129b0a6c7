"""What the reports share: Markdown tables, the look of terminal tables, and where they go."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console

TABLE_STYLE: dict[str, Any] = {"box": box.SIMPLE_HEAD, "title_justify": "left", "pad_edge": False}

# Wide enough for the tables where there is no terminal to ask.
_WIDTH_WITHOUT_TERMINAL = 120


def markdown_table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Yields the lines of a table."""
    yield f"| {' | '.join(header)} |"
    yield f"|{' --- |' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def report_console() -> Console:
    """Returns the console that reports are printed to."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)


def print_plain(console: Console, text: str) -> None:
    """Prints text as it is: nothing marked up, coloured or wrapped."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
