"""What is said of a task's data."""

import numpy as np
import pytest

from experiments.task import Data, fingerprint


def data(**changes):
    parts = {part: {"x": np.arange(6.0), "y": np.arange(6)} for part in Data._fields[:3]}
    return Data(**{**parts, **changes})


def test_the_same_data_have_the_same_fingerprint():
    assert fingerprint(data()) == fingerprint(data())
    turned = {"y": np.arange(12)[::2] // 2, "x": np.arange(6.0)}  # in another order, and strided
    assert fingerprint(data(train=turned)) == fingerprint(data())
    assert len(fingerprint(data())) == 12


@pytest.mark.parametrize(
    "changed",
    [
        {"x": np.arange(6.0), "y": np.arange(6) + 1},
        {"x": np.arange(6.0, dtype=np.float32), "y": np.arange(6)},
        {"x": np.arange(6.0).reshape(2, 3), "y": np.arange(6)},
        {"x": np.arange(6.0), "z": np.arange(6)},
        {"x": np.arange(6.0)},
    ],
    ids=["values", "dtype", "shape", "name", "missing"],
)
@pytest.mark.parametrize("part", Data._fields[:3])
def test_other_data_have_another(part, changed):
    assert fingerprint(data(**{part: changed})) != fingerprint(data())
