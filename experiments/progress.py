"""How far a run has come: a bar on a terminal, one line per item elsewhere."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")


def track(
    items: Sequence[Item], name: Callable[[Item], str], noun: str, console: Console
) -> Generator[Item]:
    """Yields the items one by one and shows which of them is running.

    Args:
        items: what there is to do.
        name: how an item is shown.
        noun: what the items are, in the plural.
        console: where it is shown.

    Yields:
        Each item in turn.
    """
    if console.is_terminal:
        yield from _bar(items, name, noun, console)
    else:
        yield from _lines(items, name, console)


def bar_columns(
    noun: str, *, description_width: int = 1, bar_width: int | None = 40
) -> tuple[ProgressColumn, ...]:
    """Returns what all bars show: the running item, the bar, how many are done, the time left."""
    return (
        TextColumn(f"{{task.description:<{description_width}}}"),
        BarColumn(bar_width=bar_width),
        MofNCompleteColumn(),
        TextColumn(f"{noun}, time left"),
        TimeRemainingColumn(),
    )


def _bar(
    items: Sequence[Item], name: Callable[[Item], str], noun: str, console: Console
) -> Generator[Item]:
    columns = bar_columns(noun, description_width=18)
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(items))
        for item in items:
            progress.update(bar, description=name(item))
            yield item
            progress.advance(bar)


def _lines(items: Sequence[Item], name: Callable[[Item], str], console: Console) -> Generator[Item]:
    for number, item in enumerate(items, 1):
        start = time.monotonic()
        yield item
        line = f"[{number}/{len(items)}] {name(item)}: {time.monotonic() - start:.1f} s"
        console.print(line, markup=False, highlight=False)
