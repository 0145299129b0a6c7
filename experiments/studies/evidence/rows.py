"""The registered table of rows: what is run, written down before the results."""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.arms import OPTIMIZERS, read_arm
from experiments.errors import UsageError, unknown_name
from experiments.registered import check_apart
from experiments.tasks import PRESETS, TASKS

STUDIES = (
    "main",
    "again",
    "baselines",
    "horizon",
    "decay",
    "robustness",
    "predictors",
    "others",
    "papers",
    "graphs",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One task and optimizer in several arms.

    Attributes:
        name: unique in the table.
        study: what it belongs to, one of ``STUDIES``.
        task: key into ``TASKS``.
        preset: ``"cpu"`` or ``"paper"``.
        optimizer: key into ``arms.OPTIMIZERS``.
        arms: names of arms.
        seeds: those that are reported.
        tuning_seeds: those that the learning rate is chosen on, none of ``seeds``.
        first_rates: the learning rates that the choice of each arm begins with, as exponents of 2
            that multiply the optimizer's usual rate on the task; neighbours of each other.
        most_rates: the number of rates from which on a choice is not extended.
        learning_rates: the rates that are reported, all of them; None for the best of each arm.
        weight_decay: None for the task's.
        data: :func:`~experiments.task.fingerprint` of the data, where a task has several; None for
            whatever is there.
        note: what a reader of its table must know.
    """

    name: str
    study: str
    task: str
    preset: str
    optimizer: str
    arms: Sequence[str]
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    tuning_seeds: Sequence[int] = (1000, 1001, 1002)
    first_rates: Sequence[int] = (-1, 0, 1)
    most_rates: int = 9
    learning_rates: Sequence[float] | None = None
    weight_decay: float | None = None
    data: str | None = None
    note: str = ""


def read_rows(file: Path) -> Sequence[Row]:
    """Reads a table of rows: TOML with ``[[row]]`` entries that have the fields of :class:`Row`.

    Raises:
        UsageError: the file cannot be read, or a row asks for something that does not exist.
    """
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8")).get("row", [])
    except OSError as error:
        raise UsageError(f"cannot read rows from {str(file)!r} ({error.strerror})") from error
    except ValueError as error:
        raise UsageError(f"{file.name} is not a table of rows: {error}") from error
    rows = [_row(number, entry, file.name) for number, entry in enumerate(entries, 1)]
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{file.name} has two rows called {twice!r}")
    return rows


def _row(number: int, entry: Mapping[str, Any], file: str) -> Row:
    where = f"{file}, row {entry.get('name', number)!r}"
    try:
        row = Row(**entry)
    except TypeError as error:
        raise UsageError(f"{where}: {str(error).removeprefix('Row.__init__() ')}") from error
    kinds = (
        ("study", row.study, STUDIES),
        ("task", row.task, TASKS),
        ("preset", row.preset, PRESETS),
        ("optimizer", row.optimizer, OPTIMIZERS),
    )
    for kind, name, valid in kinds:
        if name not in valid:
            raise UsageError(f"{where}: {unknown_name(kind, name, valid)}")
    for arm in row.arms:
        try:
            read_arm(arm, row.optimizer)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
    try:
        check_apart(row.seeds, row.tuning_seeds)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    first = row.first_rates
    if not first or list(first) != list(range(first[0], first[0] + len(first))):
        raise UsageError(
            f"{where}: first_rates are exponents of 2, each one more than the last, such as "
            f"[-1, 0, 1], not {list(first)}"
        )
    if row.weight_decay is not None and not OPTIMIZERS[row.optimizer].decays:
        raise UsageError(f"{where}: {row.optimizer} has no weight decay; leave weight_decay out")
    return row


def choose_rows(
    rows: Sequence[Row], names: Sequence[str] | None, tasks: Sequence[str] | None
) -> Sequence[Row]:
    """Returns the rows with these names or of these tasks; all for None.

    Raises:
        UsageError: a name is not in the table, or nothing is left.
    """
    known = [row.name for row in rows]
    for name in names or ():
        if name not in known:
            raise UsageError(unknown_name("row", name, known))
    chosen = [
        row
        for row in rows
        if (names is None or row.name in names) and (tasks is None or row.task in tasks)
    ]
    if not chosen:
        raise UsageError("no row of the table is left with these names and tasks")
    return chosen
