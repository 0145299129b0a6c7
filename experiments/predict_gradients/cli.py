"""The command ``predict-gradients``; like all of the command line, without importing JAX."""

import argparse
from collections.abc import Mapping

from experiments.arguments import (
    INTERRUPTED,
    Commands,
    Parser,
    add_data_dir,
    add_output,
    count,
    one_of,
    positive,
    seed,
    share,
)
from experiments.errors import UsageError
from experiments.folder import new_folder
from experiments.predict_gradients.config import (
    ARMS,
    DEFAULTS,
    PLAIN,
    PROBLEMS,
    Arm,
    Defaults,
    PredictConfig,
)


def add_predict_gradients(commands: "Commands[Parser]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "predict-gradients",
        help="compare gradients with control variates with the best plain batch size",
        description=(
            "Trains one network with the plain gradient at several batch sizes, and with predicted "
            "gradients, each arm by its own clock; arms take turns. Writes report.md, curves.png, "
            "runs.jsonl and meta.json to a new folder. Ctrl-C keeps the seeds that have finished."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(command=_predict_gradients)
    add = parser.add_argument
    add("--problem", type=one_of("problem", PROBLEMS), default="digits", help="default: digits")
    add(
        "--arms",
        type=one_of("arm", ARMS),
        nargs="+",
        default=list(ARMS),
        metavar="NAME",
        help=f"of {' '.join(ARMS)}; default: all; {PLAIN!r} is always there",
    )
    add("--plain-batch-sizes", type=count, nargs="+", metavar="N", help="default: the problem's")
    add("--batch-size", type=count, metavar="N", help="of the other arms, a multiple of 8")
    add(
        "--learning-rate",
        type=positive,
        metavar="RATE",
        help="of all arms; default: the problem's, by arm",
    )
    add(
        "--label-noise",
        type=share,
        default=0.0,
        metavar="P",
        help="chance that a training label is a random one, each time it is seen; default: 0",
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--seconds", type=positive, help="of each arm's own clock, per seed")
    budget.add_argument(
        "--gigaflops",
        type=positive,
        help="instead of seconds: operations of each arm, per seed; the same on every machine",
    )
    add("--seeds", type=count, default=3, metavar="N", help="number of seeds; default: 3")
    add("--first-seed", type=seed, default=0, metavar="N", help="the lowest seed; default: 0")
    add("--fit-examples", type=count, metavar="N", help="what the predictor learns from")
    add("--rank", type=count, metavar="K", help="directions that the predictor keeps")
    add("--refit-interval", type=count, metavar="N", help="steps between fits")
    add("--target", type=positive, metavar="PERCENT", help="accuracy whose cost is reported")
    add_data_dir(parser)
    add_output(parser)


def list_predict_gradients() -> None:
    """Prints the problems and the arms."""
    print("problems of predict-gradients:")
    _print_names(PROBLEMS)
    print("arms of predict-gradients:")
    _print_names({name: kind.summary for name, kind in ARMS.items()})


def _print_names(summaries: Mapping[str, str]) -> None:
    for name, summary in summaries.items():
        print(f"  {name:<12} {summary}")


def _predict_gradients(arguments: argparse.Namespace) -> int:
    config = _config(arguments)
    folder = new_folder(arguments.output, f"predict-gradients-{config.problem}")

    from experiments.predict_gradients.run import predict_gradients

    finished = predict_gradients(config, arguments.data_dir, folder)
    return 0 if finished else INTERRUPTED


def _config(arguments: argparse.Namespace) -> PredictConfig:
    defaults = DEFAULTS[arguments.problem]
    fit_examples = arguments.fit_examples or defaults.fit_examples
    rank = arguments.rank or defaults.rank
    if rank > fit_examples:
        raise UsageError(
            f"argument --rank: {rank} directions cannot be learnt from {fit_examples} examples; "
            "give --rank at most --fit-examples"
        )
    return PredictConfig(
        problem=arguments.problem,
        arms=_arms(arguments, defaults),
        seeds=tuple(range(arguments.first_seed, arguments.first_seed + arguments.seeds)),
        clock="gigaflops" if arguments.gigaflops else "seconds",
        budget=arguments.gigaflops or arguments.seconds or defaults.seconds,
        label_noise=arguments.label_noise,
        fit_examples=fit_examples,
        rank=rank,
        refit_interval=arguments.refit_interval or defaults.refit_interval,
        steps_per_call=defaults.steps_per_call,
        target=arguments.target,
    )


def _arms(arguments: argparse.Namespace, defaults: Defaults) -> tuple[Arm, ...]:
    """The plain arms, then the others, each with its learning rate."""
    batch_size = arguments.batch_size or defaults.batch_size
    if batch_size % 8:
        raise UsageError(
            f"argument --batch-size: {batch_size} is not a multiple of 8; control fractions down "
            "to 1/8 need blocks of that size"
        )
    names = [
        (PLAIN, size) for size in arguments.plain_batch_sizes or defaults.plain_batch_sizes
    ] + [(kind, batch_size) for kind in dict.fromkeys(arguments.arms) if kind != PLAIN]

    def rate(kind: str, size: int) -> float:
        tuned = defaults.learning_rates.get(f"{kind} {size}", defaults.learning_rate)
        return arguments.learning_rate or tuned

    return tuple(Arm(kind, size, rate(kind, size)) for kind, size in names)
