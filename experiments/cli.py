"""The command line: checks what was asked for before anything slow begins.

JAX is imported only once a comparison starts, so help, lists and errors come at once.
"""

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from experiments.errors import UsageError, unknown_name
from experiments.optimizers import OPTIMIZERS
from experiments.results import create_run_folder
from experiments.tasks import TASKS, load_task

if TYPE_CHECKING:
    from experiments.config import CompareConfig
    from experiments.tasks import Task

_BAD_USAGE = 2
_INTERRUPTED = 130  # what shells report after Ctrl-C: 128 + SIGINT

_LARGEST_COUNT = 1_000_000  # more is a slip of the finger, and would first fill the memory
_LARGEST_SEED = 2**31  # together with that many seeds still a 32-bit number


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
        return _BAD_USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line each."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; '{self.prog} --help' explains")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m experiments",
        description="Experiments with weight prediction for Optax optimizers.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True)
    _add_compare(commands)
    listing = commands.add_parser("list", help="show the tasks, optimizers and baselines")
    listing.set_defaults(command=_list)
    return parser


def _add_compare(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "compare",
        help="train optimizers with and without prediction on one task and compare them",
        description=(
            "Trains each optimizer plain (s=0), with weight prediction over the given horizons, "
            "and beside the usual baselines, from the same initial parameters and batches at "
            "each seed. Writes report.md, curves.png, runs.jsonl and meta.json to a new folder. "
            "Ctrl-C keeps the arms that have finished."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(command=_compare)
    add = parser.add_argument
    add("--task", type=_name("task", TASKS), default="digits", help="default: digits")
    add(
        "--optimizers",
        type=_name("optimizer", OPTIMIZERS),
        nargs="+",
        default=list(OPTIMIZERS),
        metavar="NAME",
        help=f"default: {' '.join(OPTIMIZERS)}",
    )
    add(
        "--horizons",
        type=_horizon,
        nargs="+",
        default=[0.0, 1.0, 2.0, 3.0],
        metavar="S",
        help="steps to predict ahead, fractions allowed; 0 is the plain optimizer, against which "
        "differences are taken; default: 0 1 2 3",
    )
    add("--no-baselines", dest="baselines", action="store_false", help="leave the baselines out")
    add("--seeds", type=_count, default=8, metavar="N", help="number of seeds; default: 8")
    add("--first-seed", type=_seed, default=0, metavar="N", help="the lowest seed; default: 0")
    add("--epochs", type=_count, metavar="N", help="default: the task's")
    add(
        "--learning-rates",
        nargs="+",
        metavar="RATE",
        help="one number for all optimizers, or name=number pairs for some, as in "
        "'adam=1e-3 sgdm=0.1'; default: the task's",
    )
    add("--target-loss", type=_positive, metavar="LOSS", help="default: the task's")
    add("--output", type=Path, metavar="DIR", help="a new or empty folder; default: below runs/")


def _name(kind: str, valid: Mapping[str, object]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in valid:
            raise argparse.ArgumentTypeError(unknown_name(kind, text, valid))
        return text

    return check


def _number(text: str, rule: str, holds: Callable[[float], bool]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and holds(number)):
        raise argparse.ArgumentTypeError(f"{text!r} is not {rule}")
    return number


def _horizon(text: str) -> float:
    # "-0" is 0 and must not get a label of its own.
    return abs(_number(text, "a number of steps, 0 or more", lambda number: number >= 0))


def _positive(text: str) -> float:
    return _number(text, "a number above 0", lambda number: number > 0)


def _whole(text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
    return number


def _count(text: str) -> int:
    return _whole(text, 1, _LARGEST_COUNT)


def _seed(text: str) -> int:
    return _whole(text, 0, _LARGEST_SEED)


def _list(arguments: argparse.Namespace) -> int:
    del arguments
    print("tasks:")
    for name, summary in TASKS.items():
        print(f"  {name:<10} {summary}")
    print("optimizers:")
    for name, family in OPTIMIZERS.items():
        beside = f"; baseline: {', '.join(family.baselines)}" if family.baselines else ""
        print(f"  {name:<10} {family.summary}{beside}")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    rates = _learning_rates(arguments.learning_rates, arguments.optimizers)
    folder = create_run_folder(arguments.output, f"compare-{arguments.task}")
    task = load_task(arguments.task)

    from experiments.compare import compare

    return 0 if compare(task, _config(arguments, rates, task), folder) else _INTERRUPTED


def _learning_rates(texts: Sequence[str] | None, optimizers: Sequence[str]) -> dict[str, float]:
    """Returns the learning rates that the caller chose, by optimizer."""
    if texts is None:
        return {}
    if len(texts) == 1 and "=" not in texts[0]:
        return dict.fromkeys(optimizers, _learning_rate(texts[0]))
    rates: dict[str, float] = {}
    for text in texts:
        name, equals, rate = text.partition("=")
        if not equals:
            raise UsageError(
                f"argument --learning-rates: {text!r} is not a name=number pair; "
                "give one number for all optimizers or only pairs"
            )
        if name not in optimizers:
            message = unknown_name("optimizer", name, dict.fromkeys(optimizers))
            raise UsageError(f"argument --learning-rates: {message}")
        if name in rates:
            raise UsageError(f"argument --learning-rates: {name!r} is given twice")
        rates[name] = _learning_rate(rate)
    return rates


def _learning_rate(text: str) -> float:
    try:
        return _positive(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"argument --learning-rates: {error}") from error


def _config(
    arguments: argparse.Namespace, rates: Mapping[str, float], task: "Task"
) -> "CompareConfig":
    from experiments.config import CompareConfig

    optimizers = dict.fromkeys(arguments.optimizers)
    epochs = arguments.epochs or task.epochs
    origin = task.learning_rate_origin
    if rates:
        origin = f"given on the command line for {', '.join(rates)}; for the rest {origin}"
    return CompareConfig(
        task=task.name,
        learning_rates={name: rates.get(name, task.learning_rates[name]) for name in optimizers},
        learning_rate_origin=origin,
        horizons=tuple(dict.fromkeys(arguments.horizons)),
        baselines=arguments.baselines,
        seeds=tuple(range(arguments.first_seed, arguments.first_seed + arguments.seeds)),
        epochs=epochs,
        batch_size=task.batch_size,
        early_epoch=min(task.early_epoch, epochs),
        target_loss=task.target_loss if arguments.target_loss is None else arguments.target_loss,
    )
