"""The kinds of values that options take: each reads a text, or says which rule it breaks."""

import argparse
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from experiments.errors import UsageError, unknown_name

_LARGEST_COUNT = 1_000_000  # more is a slip of the finger, and would first fill the memory
_LARGEST_DELAY = 1_000  # so many gradients are kept
_LARGEST_SEED = 2**31  # together with that many seeds still a 32-bit number


def one_of(kind: str, valid: Collection[str]) -> Callable[[str], str]:
    """Returns the type of a name that must be among ``valid``."""

    def check(text: str) -> str:
        if text not in valid:
            raise argparse.ArgumentTypeError(unknown_name(kind, text, valid))
        return text

    return check


def horizon(text: str) -> float:
    """A number of steps to predict ahead."""
    # "-0" is 0 and must not get a label of its own.
    return abs(_number(text, "a number of steps, 0 or more", lambda number: number >= 0))


def positive(text: str) -> float:
    """A number above 0."""
    return _number(text, "a number above 0", lambda number: number > 0)


def share(text: str) -> float:
    """A part of something."""
    return _number(text, "a number from 0 to 1", lambda number: 0 <= number <= 1)


def below_one(what: str) -> Callable[[str], float]:
    """Returns the type of a number from 0 to below 1, which messages call ``what``."""

    def check(text: str) -> float:
        number = horizon(text)
        if number >= 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what} from 0 to below 1")
        return number

    return check


def count(text: str) -> int:
    """A whole number of things, at least one."""
    return _whole(text, 1, _LARGEST_COUNT)


def seed(text: str) -> int:
    """A seed."""
    return _whole(text, 0, _LARGEST_SEED)


def delay(text: str) -> int:
    """A number of updates that a gradient is late."""
    return _whole(text, 0, _LARGEST_DELAY)


def _number(text: str, rule: str, holds: Callable[[float], bool]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and holds(number)):
        raise argparse.ArgumentTypeError(f"{text!r} is not {rule}")
    return number


def _whole(text: str, least: int, most: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
    return number


def chosen_learning_rates(
    texts: Sequence[str] | None, optimizers: Sequence[str]
) -> dict[str, float]:
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
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"argument --learning-rates: {error}") from error


def learning_rate_origin(rates: Mapping[str, float], default: str) -> str:
    """Returns how learning rates were chosen, given those of the command line."""
    if not rates:
        return default
    return f"given on the command line for {', '.join(rates)}; for the rest {default}"
