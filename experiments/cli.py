"""The command line: checks what was asked for before anything slow begins.

JAX is imported only once work starts, so help, lists and errors come at once.
"""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from experiments import studies
from experiments.arguments import (
    BAD_USAGE,
    INTERRUPTED,
    Commands,
    Parser,
    add_learning_rates,
    add_names,
    add_output,
    chosen_learning_rates,
    count,
    horizon,
    learning_rate_origin,
    one_of,
    positive,
    seed,
)
from experiments.bench.cli import add_bench, add_page, add_scale, list_bench
from experiments.errors import UsageError
from experiments.evidence.cli import add_evidence, list_evidence
from experiments.folder import new_folder
from experiments.optimizers import OPTIMIZERS
from experiments.predict_gradients.cli import add_predict_gradients, list_predict_gradients
from experiments.study import Command
from experiments.tasks import TASKS, load_task

if TYPE_CHECKING:
    from experiments.config import CompareConfig
    from experiments.tasks import Task


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
    adders = [(command.place, command.add_to) for command in find_commands()]
    adders += [(place, add) for place, add, _ in _NOT_YET_STUDIES]
    for _, add in sorted(adders, key=lambda pair: pair[0]):
        add(known)
    listing = known.add_parser("list", help="show everything that has a name")
    listing.set_defaults(command=_list)
    return parser


def find_commands() -> list[Command]:
    """Returns the commands that the ``ask.py`` of the studies define, in the order of help."""
    asked = (
        importlib.import_module(f"{studies.__name__}.{study.name}.ask")
        for study in pkgutil.iter_modules(studies.__path__)
    )
    found = [each for ask in asked for each in vars(ask).values() if isinstance(each, Command)]
    return sorted(found, key=lambda command: (command.place, command.name))


def _add_compare(commands: "Commands[Parser]") -> None:
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
    add("--task", type=one_of("task", TASKS), default="digits", help="default: digits")
    add_names(parser, "optimizer", OPTIMIZERS)
    add(
        "--horizons",
        type=horizon,
        nargs="+",
        default=[0.0, 1.0, 2.0, 3.0],
        metavar="S",
        help="steps to predict ahead, fractions allowed; 0 is the plain optimizer, against which "
        "differences are taken; default: 0 1 2 3",
    )
    add("--no-baselines", dest="baselines", action="store_false", help="leave the baselines out")
    add("--seeds", type=count, default=8, metavar="N", help="number of seeds; default: 8")
    add("--first-seed", type=seed, default=0, metavar="N", help="the lowest seed; default: 0")
    add("--epochs", type=count, metavar="N", help="default: the task's")
    add_learning_rates(parser)
    add("--target-loss", type=positive, metavar="LOSS", help="default: the task's")
    add_output(parser)


def _list(arguments: argparse.Namespace) -> int:
    del arguments
    print("tasks:")
    for name, summary in TASKS.items():
        print(f"  {name:<14} {summary}")
    print("optimizers:")
    for name, family in OPTIMIZERS.items():
        beside = f"; baseline: {', '.join(family.baselines)}" if family.baselines else ""
        print(f"  {name:<14} {family.summary}{beside}")
    listings = [
        (command.place, lambda c=command: _print(c.listing())) for command in find_commands()
    ]
    listings += [(place, show) for place, _, show in _NOT_YET_STUDIES if show]
    for _, show in sorted(listings, key=lambda pair: pair[0]):
        show()
    return 0


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _compare(arguments: argparse.Namespace) -> int:
    rates = chosen_learning_rates(arguments.learning_rates, arguments.optimizers)
    folder = new_folder(arguments.output, f"compare-{arguments.task}")
    task = load_task(arguments.task)

    from experiments.compare import compare

    return 0 if compare(task, _config(arguments, rates, task), folder) else INTERRUPTED


def _config(
    arguments: argparse.Namespace, rates: Mapping[str, float], task: "Task"
) -> "CompareConfig":
    from experiments.config import CompareConfig

    optimizers = dict.fromkeys(arguments.optimizers)
    epochs = arguments.epochs or task.epochs
    return CompareConfig(
        task=task.name,
        learning_rates={name: rates.get(name, task.learning_rates[name]) for name in optimizers},
        learning_rate_origin=learning_rate_origin(rates, task.learning_rate_origin),
        horizons=tuple(dict.fromkeys(arguments.horizons)),
        baselines=arguments.baselines,
        seeds=tuple(range(arguments.first_seed, arguments.first_seed + arguments.seeds)),
        epochs=epochs,
        batch_size=task.batch_size,
        early_epoch=min(task.early_epoch, epochs),
        target_loss=task.target_loss if arguments.target_loss is None else arguments.target_loss,
    )


_NOT_YET_STUDIES = (
    (10, _add_compare, None),
    (20, add_bench, list_bench),
    (21, add_scale, None),
    (22, add_page, None),
    (40, add_predict_gradients, list_predict_gradients),
    (90, add_evidence, list_evidence),
)
