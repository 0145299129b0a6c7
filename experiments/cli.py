"""The command line: checks what was asked for before anything slow begins.

JAX is imported only once work starts, so help, lists and errors come at once.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import studies
from experiments.arms import OPTIMIZERS
from experiments.errors import UsageError, missing
from experiments.options import Parser
from experiments.study import BAD_USAGE, INTERRUPTED, Command
from experiments.tasks import TASKS


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: the arguments, those of the process if None.

    Returns:
        The exit status: 0, 2 for a request that cannot be met, 130 after Ctrl-C.
    """
    try:
        arguments = _parser().parse_args(argv)
        return arguments.command(arguments)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_USAGE
    except ModuleNotFoundError as error:
        message = missing((error.name or "").partition(".")[0])
        if message is None:
            raise  # a fault of ours
        print(f"error: {message}", file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m experiments",
        description="Experiments with weight prediction and with gradient prediction.",
        allow_abbrev=False,
    )
    known = parser.add_subparsers(required=True)
    for command in find_commands():
        command.add_to(known)
    listing = known.add_parser("list", help="show everything that has a name")
    listing.set_defaults(command=_list)
    return parser


def find_commands() -> list[Command]:
    """Returns the commands that the ``ask.py`` of the studies define, in the order of help."""
    files = sorted(file for folder in studies.__path__ for file in Path(folder).glob("*/ask.py"))
    asked = (
        importlib.import_module(f"{studies.__name__}.{file.parent.name}.ask") for file in files
    )
    found = [each for ask in asked for each in vars(ask).values() if isinstance(each, Command)]
    return sorted(found, key=lambda command: (command.place, command.name))


def _list(arguments: argparse.Namespace) -> int:
    del arguments
    print("tasks:")
    for name, row in TASKS.items():
        print(f"  {name:<18} {row.summary}")
    print("optimizers:")
    for name, optimizer in OPTIMIZERS.items():
        beside = f"; baseline: {optimizer.baseline}" if optimizer.baseline else ""
        print(f"  {name:<14} {optimizer.summary}{beside}")
    for command in find_commands():
        for line in command.listing():
            print(line)
    return 0
