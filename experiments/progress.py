"""How far a run has come: a bar on a terminal, one line per item elsewhere."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

Item = TypeVar("Item")


class Progress:
    """Shows which item is running, and how far it has come.

    Attributes:
        noun: what the items are, in the plural.
    """

    def __init__(
        self, noun: str, name: Callable[[Any], str] = str, console: Console | None = None
    ) -> None:
        self.noun = noun
        self._name = name
        self._console = console or Console(stderr=True)
        self._within: Callable[[float, str], None] = lambda share, text: None

    def through(self, items: Sequence[Item]) -> Generator[Item]:
        """Yields the items one by one and shows which of them is running."""
        return self._bar(items) if self._console.is_terminal else self._lines(items)

    def within(self, share: float, text: str) -> None:
        """Shows how far the running item has come.

        Args:
            share: of its work, from 0 to 1.
            text: what is done now.
        """
        self._within(share, text)

    def _bar(self, items: Sequence[Item]) -> Generator[Item]:
        columns = bar_columns(self.noun, description_width=18)
        with Bar(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("", total=len(items))
            for number, item in enumerate(items):
                name = self._name(item)

                def within(share: float, text: str, number: int = number, name: str = name) -> None:
                    bar.update(task, completed=number + share, description=f"{name}: {text}")

                self._within = within
                bar.update(task, completed=number, description=name)
                yield item
            bar.update(task, completed=len(items))

    def _lines(self, items: Sequence[Item]) -> Generator[Item]:
        for number, item in enumerate(items, 1):
            start = time.monotonic()
            head = f"[{number}/{len(items)}] {self._name(item)}"
            self._within = lambda share, text, head=head: self._say(f"{head}: {share:.0%}, {text}")
            yield item
            self._say(f"{head}: {time.monotonic() - start:.1f} s")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)


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
