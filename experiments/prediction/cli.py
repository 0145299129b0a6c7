"""The command ``prediction-error``; like all of the command line, without importing JAX."""

import argparse

from experiments.arguments import (
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
    seed,
)
from experiments.arms import OF_PAPERS, OPTIMIZERS
from experiments.folder import new_folder
from experiments.prediction.config import PREDICTORS, PredictionErrorConfig
from experiments.tasks import TASKS, load_task
from experiments.tasks.constant import training_of

_DEFAULT_EPOCHS = 10


def add_prediction_error(commands: "Commands[Parser]") -> None:
    """Adds the command ``prediction-error``."""
    parser = commands.add_parser(
        "prediction-error",
        help="measure how good predictions are during training, by predictor and steps ahead",
        description=(
            "Trains each optimizer with each predictor and measures, at every step, how far each "
            "prediction 1 to 10 steps ahead is from what training then reaches. Writes report.md, "
            "errors.png, runs.jsonl and meta.json to a new folder. Ctrl-C keeps the arms that "
            "have finished."
        ),
        allow_abbrev=False,
    )
    parser.set_defaults(command=_prediction_error)
    add = parser.add_argument
    add("--task", type=one_of("task", TASKS), default="digits", help="default: digits")
    add_names(parser, "optimizer", OPTIMIZERS, OF_PAPERS)
    add_names(parser, "predictor", PREDICTORS)
    add(
        "--trained-with",
        type=horizon,
        nargs="+",
        default=[0.0],
        metavar="S",
        help="the s that training itself uses; 0, the default, is the plain optimizer, so that all "
        "predictors are judged on the same steps",
    )
    add(
        "--ahead",
        type=count,
        nargs="+",
        default=list(range(1, 11)),
        metavar="N",
        help="how many steps ahead predictions are judged; default: 1 to 10",
    )
    add("--seeds", type=count, default=4, metavar="N", help="number of seeds; default: 4")
    add("--first-seed", type=seed, default=0, metavar="N", help="the lowest seed; default: 0")
    add(
        "--epochs",
        type=count,
        default=_DEFAULT_EPOCHS,
        metavar="N",
        help=f"default: {_DEFAULT_EPOCHS}",
    )
    add_learning_rates(parser)
    add_output(parser)


def list_predictors() -> None:
    """Prints the predictors, for the command ``list``."""
    print("predictors:")
    for name, summary in PREDICTORS.items():
        print(f"  {name:<14} {summary}")


def _prediction_error(arguments: argparse.Namespace) -> int:
    rates = chosen_learning_rates(arguments.learning_rates, arguments.optimizers)
    folder = new_folder(arguments.output, f"prediction-error-{arguments.task}")
    task, training = load_task(arguments.task), training_of(arguments.task)
    optimizers = tuple(dict.fromkeys(arguments.optimizers))
    usual = training.learning_rates
    config = PredictionErrorConfig(
        task=task.name,
        learning_rates={name: rates.get(name, usual[name]) for name in optimizers},
        learning_rate_origin=learning_rate_origin(rates, training.origin_of(optimizers)),
        predictors=tuple(dict.fromkeys(arguments.predictors)),
        trained_with=tuple(dict.fromkeys(arguments.trained_with)),
        horizons=tuple(sorted(set(arguments.ahead))),
        seeds=tuple(range(arguments.first_seed, arguments.first_seed + arguments.seeds)),
        epochs=arguments.epochs,
        batch_size=training.protocol.batch_size,
    )

    from experiments.prediction.run import measure_prediction_errors

    return 0 if measure_prediction_errors(task, config, folder) else INTERRUPTED
