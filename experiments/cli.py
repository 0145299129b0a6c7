"""The command line: checks what was asked for before anything slow begins.

JAX is imported only once work starts, so help, lists and errors come at once.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
from experiments.arms import OF_PAPERS, OPTIMIZERS
from experiments.batch_norm.cli import add_batch_norm
from experiments.bench.cli import add_bench, add_page, add_scale, list_bench
from experiments.errors import UsageError
from experiments.evidence.cli import add_evidence
from experiments.predict_gradients.cli import add_predict_gradients, list_predict_gradients
from experiments.prediction.cli import add_prediction_error, list_predictors
from experiments.results import create_run_folder
from experiments.stability.cli import add_horizon, add_stability
from experiments.tasks import TASKS, load_task
from experiments.tasks.constant import training_of

if TYPE_CHECKING:
    from experiments.config import CompareConfig
    from experiments.tasks.constant import Training


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
    commands = parser.add_subparsers(required=True)
    _add_compare(commands)
    add_bench(commands)
    add_scale(commands)
    add_page(commands)
    add_predict_gradients(commands)
    add_prediction_error(commands)
    add_batch_norm(commands)
    add_stability(commands)
    add_horizon(commands)
    add_evidence(commands)
    listing = commands.add_parser("list", help="show everything that has a name")
    listing.set_defaults(command=_list)
    return parser


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
    add_names(parser, "optimizer", OPTIMIZERS, OF_PAPERS)
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
    for name, row in TASKS.items():
        print(f"  {name:<18} {row.summary}")
    print("optimizers:")
    for name, optimizer in OPTIMIZERS.items():
        beside = f"; baseline: {optimizer.baseline}" if optimizer.baseline else ""
        print(f"  {name:<14} {optimizer.summary}{beside}")
    list_bench()
    list_predict_gradients()
    list_predictors()
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    rates = chosen_learning_rates(arguments.learning_rates, arguments.optimizers)
    folder = create_run_folder(arguments.output, f"compare-{arguments.task}")
    task, training = load_task(arguments.task), training_of(arguments.task)

    from experiments.compare import compare

    config = _config(arguments, rates, training)
    return 0 if compare(task, training, config, folder) else INTERRUPTED


def _config(
    arguments: argparse.Namespace, rates: Mapping[str, float], training: "Training"
) -> "CompareConfig":
    from experiments.config import CompareConfig

    optimizers = tuple(dict.fromkeys(arguments.optimizers))
    usual, protocol = training.learning_rates, training.protocol
    epochs = arguments.epochs or protocol.epochs
    return CompareConfig(
        task=arguments.task,
        learning_rates={name: rates.get(name, usual[name]) for name in optimizers},
        learning_rate_origin=learning_rate_origin(rates, training.origin_of(optimizers)),
        horizons=tuple(dict.fromkeys(arguments.horizons)),
        baselines=arguments.baselines,
        seeds=tuple(range(arguments.first_seed, arguments.first_seed + arguments.seeds)),
        epochs=epochs,
        batch_size=protocol.batch_size,
        early_epoch=min(training.early_epoch, epochs),
        target_loss=training.target_loss
        if arguments.target_loss is None
        else arguments.target_loss,
    )
