"""The command ``batch-norm``; like all of the command line, without importing JAX."""

import argparse

from experiments.arguments import (
    INTERRUPTED,
    Commands,
    Parser,
    add_names,
    add_output,
    count,
    horizon,
    seed,
)
from experiments.batch_norm.config import OPTIMIZERS, BatchNormConfig
from experiments.results import create_run_folder


def add_batch_norm(commands: "Commands[Parser]") -> None:
    """Adds the command ``batch-norm``."""
    parser = commands.add_parser(
        "batch-norm",
        help="compare running with recalibrated BatchNorm statistics at the true weights",
        description=(
            "Trains a small convolutional network with BatchNorm on digits, with and without "
            "prediction, and evaluates it after each epoch with the statistics that training left "
            "and with those measured anew. Writes report.md, runs.jsonl and meta.json to a new "
            "folder. Ctrl-C keeps the arms that have finished."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(command=_batch_norm)
    add = parser.add_argument
    add_names(parser, "optimizer", OPTIMIZERS)
    add(
        "--horizons",
        type=horizon,
        nargs="+",
        default=[0.0, 1.0, 4.0],
        metavar="S",
        help="steps to predict ahead; 0 is the plain optimizer; default: 0 1 4",
    )
    add(
        "--momenta",
        type=_momentum,
        nargs="+",
        default=[0.9, 0.99],
        metavar="M",
        help="of the running statistics; default: 0.9 and Flax's own 0.99",
    )
    add("--seeds", type=count, default=5, metavar="N", help="number of seeds; default: 5")
    add("--first-seed", type=seed, default=0, metavar="N", help="the lowest seed; default: 0")
    add("--epochs", type=count, default=10, metavar="N", help="default: 10")
    add_output(parser)


def _momentum(text: str) -> float:
    number = horizon(text)
    if number >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a momentum from 0 to below 1")
    return number


def _batch_norm(arguments: argparse.Namespace) -> int:
    folder = create_run_folder(arguments.output, "batch-norm")
    config = BatchNormConfig(
        optimizers=tuple(dict.fromkeys(arguments.optimizers)),
        horizons=tuple(dict.fromkeys(arguments.horizons)),
        momenta=tuple(dict.fromkeys(arguments.momenta)),
        seeds=tuple(range(arguments.first_seed, arguments.first_seed + arguments.seeds)),
        epochs=arguments.epochs,
    )

    from experiments.batch_norm.run import compare_batch_stats

    return 0 if compare_batch_stats(config, folder) else INTERRUPTED
