"""How far a run has come: a bar on a terminal, one line per item elsewhere."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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


def _bar(
    items: Sequence[Item], name: Callable[[Item], str], noun: str, console: Console
) -> Generator[Item]:
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{noun}, time left"),
        TimeRemainingColumn(),
    )
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
