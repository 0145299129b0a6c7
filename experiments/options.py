"""A configuration that is its own command line: field = option = entry of ``meta.json``.

A study's ``Config`` is a frozen dataclass whose fields are made by the functions below::

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        horizons: tuple[float, ...] = many(horizon, (0.0, 1.0), "S", "steps to predict ahead")
        seeds: tuple[int, ...] = seeds(5)
        batch_size: int = fixed(32, "examples per step")

The sentence beside a field is what ``--help`` says of ``--horizons``, and nobody explains it again.
Nothing here imports JAX: help and errors come at once.
"""

import argparse
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments.errors import UsageError
from experiments.kinds import count, one_of, seed


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line each."""

    def error(self, message: str) -> NoReturn:
        """Raises a ``UsageError`` instead of leaving the program."""
        raise UsageError(f"{message}; '{self.prog} --help' explains")


# --------------------------------------------------------------------------------------------------
# What a field says about itself
# --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Field:
    """What becomes of a field.

    Attributes:
        options: argparse's keywords of each option, by its name; ``""`` is named by the field.
        read: makes the field's value of what the options have parsed.
        either: fields of the same word exclude each other on the command line.
        positional: whether it is an argument without a name.
        recorded: whether it is an entry of ``meta.json``.
    """

    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    read: Callable[..., Any] = lambda value: value
    either: str | None = None
    positional: bool = False
    recorded: bool = True


# Any: a field is declared with the type that it has when the configuration is complete.
def _field(default: Any, **about: Any) -> Any:
    return dataclasses.field(default=default, metadata={_Field: _Field(**about)})


def one(
    kind: Callable[[str], Any],
    default: Any = None,
    metavar: str | None = None,
    help: str = "",
    *,
    shown: str | None = None,
    either: str | None = None,
    recorded: bool = True,
) -> Any:
    """A field with one value.

    Args:
        kind: reads it, see ``kinds.py``.
        default: its value without the option; None if ``Config.completed`` sets it.
        metavar: how help calls the value; by default like the option.
        help: what it is.
        shown: how help shows the default; by default as it is typed.
        either: fields of the same word exclude each other on the command line.
        recorded: whether it is an entry of ``meta.json``.
    """
    keywords = {"type": kind, "default": default, "metavar": metavar}
    keywords["help"] = _with_default(help, [default], shown)
    return _field(default, options={"": keywords}, either=either, recorded=recorded)


def many(
    kind: Callable[[str], Any],
    default: Sequence[Any] | None,
    metavar: str,
    help: str = "",
    *,
    shown: str | None = None,
    ordered: bool = False,
    recorded: bool = True,
    option: str = "",
) -> Any:
    """A field with several values, each once, in the order given or in their own order.

    See :func:`one`; an ``option`` is not called like the field.
    """

    def read(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
        if values is None:
            return None
        return tuple(dict.fromkeys(sorted(values) if ordered else values))

    keywords = {"type": kind, "nargs": "+", "default": default, "metavar": metavar}
    keywords["help"] = _with_default(help, default or [None], shown)
    return _field(default, options={option: keywords}, read=read, recorded=recorded)


def choice(
    kind: str, valid: Collection[str], default: Any, help: str = "", metavar: str | None = None
) -> Any:
    """A field with one of several names."""
    return one(one_of(kind, valid), default, metavar, help)


def names(
    kind: str,
    valid: Collection[str],
    default: Sequence[str] | None = (),
    help: str = "",
    *,
    shown: str | None = None,
    recorded: bool = True,
) -> Any:
    """A field with several names of a kind, by default all of them."""
    chosen = tuple(valid) if default == () else default
    return many(one_of(kind, valid), chosen, "NAME", help, shown=shown, recorded=recorded)


def seeds(number: int, first: int = 0, lowest: str = "the lowest seed") -> Any:
    """The field of the seeds, which two options give: how many, and the first of them."""
    options = {
        "": _counted(count, number, f"number of seeds; default: {number}"),
        "first-seed": _counted(seed, first, f"{lowest}; default: {first}"),
    }
    default = tuple(range(first, first + number))
    return _field(default, options=options, read=lambda n, low: tuple(range(low, low + n)))


def _counted(kind: Callable[[str], Any], default: int, help: str) -> dict[str, Any]:
    return {"type": kind, "default": default, "metavar": "N", "help": help}


def switch(help: str, *, off: bool = False, recorded: bool = True) -> Any:
    """A field that is true with ``--field``; with ``off`` true without ``--no-field``."""
    name, action = ("no-", "store_false") if off else ("", "store_true")
    return _field(off, options={name: {"action": action, "help": help}}, recorded=recorded)


def positional(kind: Callable[[str], Any], help: str, **keywords: Any) -> Any:
    """A field whose value stands on the command line without a name; not in ``meta.json``."""
    options = {"": {"type": kind, "help": help, **keywords}}
    return _field(keywords.get("default"), options=options, positional=True, recorded=False)


def fixed(value: Any, help: str) -> Any:
    """A field that is no option, of a value that records are to keep."""
    del help  # for who reads the code
    return _field(value)


def derived(help: str) -> Any:
    """A field that is no option: ``Config.completed`` sets it."""
    return fixed(None, help)


def output() -> Any:
    """The field of the run folder; it is no entry of ``meta.json``, which lies in that folder."""
    return one(Path, None, "DIR", "a new or empty folder", shown="below runs/", recorded=False)


def data_dir() -> Any:
    """The field of the folder of data sets; no entry of ``meta.json``, which names no paths."""
    help, shown = "where TFDS's data sets are", "$TFDS_DATA_DIR"
    return one(str, None, "DIR", help, shown=shown, recorded=False)


def learning_rates() -> Any:
    """The field of what :func:`experiments.kinds.chosen_learning_rates` reads."""
    help = (
        "one number for all optimizers, or name=number pairs for some, as in "
        "'adam=1e-3 sgdm=0.1'; default: the task's"
    )
    return _field(None, options={"": {"nargs": "+", "metavar": "RATE", "help": help}})


def steps_ahead() -> Any:
    """The field of how many steps ahead predictions are judged."""
    help = "how many steps ahead predictions are judged"
    ten = tuple(range(1, 11))
    return many(count, ten, "N", help, shown="1 to 10", ordered=True, option="ahead")


def listed(heading: str, summaries: Mapping[str, str], width: int) -> Iterator[str]:
    """Yields the lines of ``list`` for what a command has names for."""
    yield f"{heading}:"
    for name, summary in summaries.items():
        yield f"  {name:<{width}} {summary}"


def _with_default(help: str, default: Iterable[Any], shown: str | None) -> str:
    values = [value for value in default if value is not None]
    if shown is None:
        shown = " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
    return "; ".join(filter(None, [help, shown and f"default: {shown}"]))


# --------------------------------------------------------------------------------------------------
# From the fields to the command line, and back
# --------------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser, config: type) -> None:
    """Gives a parser the options of a configuration, in the order of its fields."""
    exclusive: dict[str, Any] = {}
    for field, about in _fields(config):
        target: Any = parser
        if about.either:
            target = exclusive.setdefault(about.either, None)
            if target is None:
                target = exclusive[about.either] = parser.add_mutually_exclusive_group()
        for name, keywords in about.options.items():
            if about.positional:
                target.add_argument(field.name, **keywords)
            else:
                flag = f"--{_option(field, name)}"
                target.add_argument(flag, dest=_destination(field, name), **keywords)


def read_options(config: type, arguments: argparse.Namespace) -> Any:
    """Returns the configuration that was asked for."""
    values = {
        field.name: about.read(
            *(getattr(arguments, _destination(field, name)) for name in about.options)
        )
        for field, about in _fields(config)
        if about.options
    }
    found = config(**values)
    return found.completed() if hasattr(found, "completed") else found


def recorded(config: Any) -> dict[str, Any]:
    """Returns what ``meta.json`` says about a configuration."""
    kept = [field.name for field, about in _fields(type(config)) if about.recorded]
    everything = dataclasses.asdict(config)
    return {name: everything[name] for name in kept}


def _fields(config: type) -> list[tuple[Any, _Field]]:
    fields = dataclasses.fields(config)  # pyright: ignore[reportArgumentType] - it is a dataclass
    return [(field, field.metadata.get(_Field, _Field())) for field in fields]


def _option(field: Any, name: str) -> str:
    """``--field``, ``--no-field``, or an option that has a name of its own."""
    own = field.name.replace("_", "-")
    return own if not name else f"no-{own}" if name == "no-" else name


def _destination(field: Any, name: str) -> str:
    return field.name if name in ("", "no-") else name.replace("-", "_")
