"""Sharded training: the single device's result, and nothing but small sums communicated.

Measured by ``data_parallel_worker.py`` on four virtual devices.
"""

import collections

import data_parallel_worker as worker
import isolated
import jax
import numpy as np
import pytest

DEVICES = 4

# Sums over the mini-batch that a step needs beyond those of the plain step.
ADDED = {
    ("kernel", None): {"f32[8,9]": 1},  # Σ_i w_i δ_i ⊗ ã_i
    ("kernel", "output_gradient"): {"f32[8,9]": 1, "f32[]": 1},  # and the sum of the scores
    # The prediction is a second gradient of the trunk; its first layer is used twice.
    ("low_precision", None): {"f32[8]": 1, "f32[8,8]": 2},
}


def arrays(collectives):
    """Counts by array, whichever way round a matrix lies."""
    counts = collections.Counter()
    for (_, array, _), count in collectives.items():
        counts["f32[4,8]" if array == "f32[8,4]" else array] += count
    return counts


@pytest.mark.parametrize(("predictor", "importance"), ADDED)
def test_data_parallel_step(predictor, importance):
    (single, parallel), (plain, predicted) = isolated.run(
        worker.data_parallel_step, predictor, importance, devices=DEVICES
    )
    tolerance = 1e-5 if predictor == "kernel" else 2**-6  # of bfloat16
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), single, parallel)
    assert {operation for operation, _, _ in predicted} == {"all-reduce"}
    added = arrays(predicted)
    added.subtract(arrays(plain))
    assert {array: count for array, count in added.items() if count} == ADDED[predictor, importance]


def test_moving_rows_would_be_seen():
    collectives = isolated.run(worker.gathered_batch, devices=DEVICES)
    assert f"f32[{worker.ROWS},{worker.WIDTH}]" in arrays(collectives)


@pytest.mark.parametrize("layout", worker.LAYOUTS)
def test_basis_lies_where_the_trunk_lies(layout):
    """After ``init``, and after compiled fits."""
    trunk, bases = isolated.run(worker.basis_layout, layout, devices=DEVICES)
    assert trunk["w"] == ((2, 8) if layout == "fully_sharded" else (8, 8))
    for basis in bases:
        assert basis == {name: (6, *shape) for name, shape in trunk.items()}
