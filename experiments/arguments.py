"""Options of the commands that are not studies yet, see ``options.py``."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.kinds import (
    chosen_learning_rates,
    count,
    horizon,
    learning_rate_origin,
    one_of,
    positive,
    seed,
    share,
)
from experiments.options import Parser
from experiments.study import BAD_USAGE, INTERRUPTED

__all__ = [
    "BAD_USAGE",
    "INTERRUPTED",
    "Commands",
    "Parser",
    "chosen_learning_rates",
    "count",
    "horizon",
    "learning_rate_origin",
    "one_of",
    "positive",
    "seed",
    "share",
]

Commands = argparse._SubParsersAction


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds the option for the run folder."""
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="a new or empty folder; default: below runs/"
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Adds the option for the folder of data sets."""
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where TFDS's data sets are; default: $TFDS_DATA_DIR"
    )


def add_learning_rates(parser: argparse.ArgumentParser) -> None:
    """Adds the option that :func:`chosen_learning_rates` reads."""
    parser.add_argument(
        "--learning-rates",
        nargs="+",
        metavar="RATE",
        help="one number for all optimizers, or name=number pairs for some, as in "
        "'adam=1e-3 sgdm=0.1'; default: the task's",
    )


def add_names(
    parser: argparse.ArgumentParser,
    kind: str,
    valid: Mapping[str, object],
    default: Sequence[str] = (),
) -> None:
    """Adds the option for several names of a kind (``"optimizer"``: ``--optimizers``), or all."""
    parser.add_argument(
        f"--{kind}s",
        type=one_of(kind, valid),
        nargs="+",
        default=list(default or valid),
        metavar="NAME",
        help=f"default: {' '.join(default or valid)}",
    )
