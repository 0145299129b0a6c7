"""The commands ``stability`` and ``horizon``; like all of the command line, without JAX."""

import argparse
import dataclasses

from experiments.arguments import (
    INTERRUPTED,
    Commands,
    Parser,
    add_data_dir,
    add_output,
    count,
    horizon,
    one_of,
    positive,
    seed,
)
from experiments.folder import new_folder
from experiments.stability.config import SCALES, HorizonConfig, StabilityConfig
from experiments.stability.problems import PROBLEMS


def add_stability(commands: "Commands[Parser]") -> None:
    """Adds the command ``stability``."""
    parser = commands.add_parser(
        "stability",
        help="predict from the Hessian at which learning rate each horizon diverges, and look",
        description=(
            "Measures the largest curvature of a network's loss, predicts from it the largest "
            "stable learning rate of SGDM for each horizon, and observes it: near that point, in "
            "mini-batch training and in full-batch training. Writes report.md, limits.png, "
            "choice.png, runs.jsonl and meta.json to a new folder. Ctrl-C keeps the horizons that "
            "have finished. About one minute for digits on two cores, longer for cifar10."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(command=_stability)
    _add_problem(parser)
    _add_horizons(parser, [0.0, 0.5, 1.0, 2.0, 4.0])
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    add_output(parser)


def add_horizon(commands: "Commands[Parser]") -> None:
    """Adds the command ``horizon``."""
    parser = commands.add_parser(
        "horizon",
        help="try a horizon that sets itself against fixed ones",
        description=(
            "Trains a network by SGDM with fixed horizons and with one that follows the curvature "
            "along the updates, from the same initial parameters and batches at each seed. Writes "
            "report.md, runs.jsonl and meta.json to a new folder. Ctrl-C keeps the arms that have "
            "finished."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(command=_horizon)
    _add_problem(parser)
    _add_horizons(parser, [0.0, 1.0, 1.75, 2.0, 4.0])
    add = parser.add_argument
    add(
        "--learning-rates",
        type=positive,
        nargs="+",
        default=[0.03, 0.1, 0.2],
        metavar="RATE",
        help="default: 0.03 0.1 0.2",
    )
    add("--s-max", type=horizon, default=4.0, metavar="S", help="its bound; default: 4")
    add("--epochs", type=count, default=15, metavar="N", help="default: 15")
    add("--seeds", type=count, default=10, metavar="N", help="number of seeds; default: 10")
    add("--first-seed", type=seed, default=100, metavar="N", help="the lowest; default: 100")
    add_output(parser)


def _add_problem(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    problems = "; ".join(f"{name}: {summary}" for name, summary in PROBLEMS.items())
    add(
        "--problem",
        type=one_of("problem", PROBLEMS),
        default="digits",
        metavar="NAME",
        help=f"{problems}; default: digits",
    )
    add_data_dir(parser)
    add("--examples", type=count, metavar="N", help="training examples to use; default: by problem")
    add("--momentum", type=_momentum, default=0.9, metavar="MU", help="below 1; default: 0.9")


def _add_horizons(parser: argparse.ArgumentParser, default: list[float]) -> None:
    parser.add_argument(
        "--horizons",
        type=horizon,
        nargs="+",
        default=default,
        metavar="S",
        help=f"steps to predict ahead; default: {' '.join(f'{s:g}' for s in default)}",
    )


def _momentum(text: str) -> float:
    number = horizon(text)
    if number >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to below 1")
    return number


def _stability(arguments: argparse.Namespace) -> int:
    scale = SCALES[arguments.problem]
    if arguments.examples is not None:
        scale = dataclasses.replace(scale, examples=arguments.examples)
    config = StabilityConfig(
        problem=arguments.problem,
        horizons=tuple(dict.fromkeys(arguments.horizons)),
        momentum=arguments.momentum,
        seed=arguments.seed,
        scale=scale,
    )

    from experiments.stability.problems import load_problem

    problem = load_problem(config.problem, arguments.data_dir, scale.examples)
    folder = new_folder(arguments.output, f"stability-{config.problem}")

    from experiments.stability.run import stability

    return 0 if stability(problem, config, folder) else INTERRUPTED


def _horizon(arguments: argparse.Namespace) -> int:
    config = HorizonConfig(
        problem=arguments.problem,
        examples=arguments.examples,
        learning_rates=tuple(dict.fromkeys(arguments.learning_rates)),
        horizons=tuple(dict.fromkeys(arguments.horizons)),
        s_max=arguments.s_max,
        momentum=arguments.momentum,
        epochs=arguments.epochs,
        seeds=tuple(range(arguments.first_seed, arguments.first_seed + arguments.seeds)),
    )

    from experiments.stability.problems import load_problem

    problem = load_problem(config.problem, arguments.data_dir, config.examples)
    folder = new_folder(arguments.output, f"horizon-{config.problem}")

    from experiments.stability.trial import trial

    return 0 if trial(problem, config, folder) else INTERRUPTED
