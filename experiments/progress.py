"""How far a comparison has come: a bar on a terminal, one line per arm elsewhere."""

import time
from collections.abc import Generator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.optimizers import Arm


def track(arms: Sequence[Arm], console: Console) -> Generator[Arm]:
    """Yields the arms one by one and shows which of them is running."""
    return _bar(arms, console) if console.is_terminal else _lines(arms, console)


def _bar(arms: Sequence[Arm], console: Console) -> Generator[Arm]:
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("arms, time left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(arms))
        for arm in arms:
            progress.update(bar, description=_name(arm))
            yield arm
            progress.advance(bar)


def _lines(arms: Sequence[Arm], console: Console) -> Generator[Arm]:
    for number, arm in enumerate(arms, 1):
        start = time.monotonic()
        yield arm
        line = f"[{number}/{len(arms)}] {_name(arm)}: {time.monotonic() - start:.1f} s"
        console.print(line, markup=False, highlight=False)


def _name(arm: Arm) -> str:
    return f"{arm.optimizer} {arm.label}"
