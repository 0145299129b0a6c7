"""Sharded training: arrays stay where they are, and prediction communicates nothing.

Eight virtual devices, in the layouts of ``sharded_mlp.py``. Measured in processes of their own by
``sharding_worker.py``.
"""

import collections

import isolated
import pytest
import sharding_worker
from sharded_mlp import AXIS_TYPES, LAYOUTS, S

DEVICES = 8
EACH_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)

# Plain Optax refuses explicitly sharded parameters here: dot products and decompositions in it do
# not say how their results are to be sharded.
NEED_WHOLE_ARRAYS = {
    "dadapt_adamw",
    "galore",
    "lbfgs",
    "mechanize",
    "momo",
    "momo_adam",
    "muon",
    "prodigy",
}


@EACH_LAYOUT
def test_params_state_and_prediction_keep_their_types(layout):
    changes = isolated.run(sharding_worker.changed_types, layout, devices=DEVICES)
    refused = {name for (name, form), found in changes.items() if found == "ShardingTypeError"}
    assert refused == (set() if layout == "data_parallel" else NEED_WHOLE_ARRAYS)
    # Prediction refuses nothing that the optimizer itself takes, and changes nothing else.
    assert {
        case: found for case, found in changes.items() if found and case[0] not in refused
    } == {}
    assert all(changes[name, "plain"] == "ShardingTypeError" for name in refused)


@EACH_LAYOUT
@pytest.mark.parametrize("axis_types", AXIS_TYPES)
@pytest.mark.parametrize("optimizer", ["sgdm", "adamw"])
def test_collectives_are_those_of_the_plain_step(layout, axis_types, optimizer):
    expected, found = isolated.run(
        sharding_worker.compare_with_plain_step, layout, axis_types, optimizer, devices=DEVICES
    )
    assert expected
    assert len(found) == 7, "two forms with three predictors each, and the in-place form"
    for form, (collectives, moved) in found.items():
        assert collectives == expected, form
        assert moved == [], form


@pytest.mark.parametrize("layout", ["fully_sharded", "two_dimensional"])
def test_only_rollouts_repeat_what_the_optimizer_itself_communicates(layout):
    expected, found = isolated.run(
        sharding_worker.compare_with_plain_step, layout, "explicit_axes", "lamb", devices=DEVICES
    )
    norms = {array: count for array, count in by_array(expected).items() if array == "f32[]"}
    assert norms
    for form, (collectives, moved) in found.items():
        rollouts = S if form.endswith("zero_gradient") else 0
        added = by_array(collectives - expected)
        assert added == {array: rollouts * count for array, count in norms.items() if rollouts}, (
            form
        )
        assert expected - collectives == {}, form
        assert moved == [], form


def by_array(collectives):
    """The counts of arrays, whatever the operation and the devices."""
    counts = collections.Counter()
    for (_, array, _), count in collectives.items():
        counts[array] += count
    return counts


def test_a_superfluous_collective_would_be_seen():
    expected, found = isolated.run(
        sharding_worker.compare_with_gathered_prediction, devices=DEVICES
    )
    assert {operation for operation, _, _ in found - expected} == {"all-gather"}


def test_master_copy_and_moments_lie_where_the_params_lie():
    before, after = isolated.run(sharding_worker.types_with_master_copy, devices=DEVICES)
    assert after == before
    params, *copies = before
    assert {dtype for _, dtype, _ in params.values()} == {"bfloat16"}
    in_float32 = {path: (shape, "float32", spec) for path, (shape, _, spec) in params.items()}
    assert copies == [in_float32] * 3, "θ and both moments of Adam"
