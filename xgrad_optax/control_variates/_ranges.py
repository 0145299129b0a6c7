"""The ranges of the arguments of the cost theory: values as float arrays, or an error."""

from typing import Any

import numpy as np

Number = Any


def valid_fraction(value: Number) -> Any:
    value = np.asarray(value, float)
    if not np.all((value > 0) & (value <= 1)):
        raise ValueError(f"the control fraction must lie in (0, 1], got {value}.")
    return value


def valid_sampling_ratio(value: Number) -> Any:
    value = np.asarray(value, float)
    if not np.all((value > 0) & np.isfinite(value)):
        raise ValueError(f"sampling_ratio must be a positive number, got {value}.")
    return value


def at_least_zero(name: str, value: Number) -> Any:
    return within(name, value, 0.0, np.inf)


def within(name: str, value: Number, low: float, high: float) -> Any:
    value = np.asarray(value, float)
    if not np.all((value >= low) & (value <= high)):
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {value}.")
    return value
