"""Batches of training and of measuring, and the shapes of learning rates."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from experiments.task import Data
from experiments.tasks import load_task
from experiments.training.batches import epoch_batches, measuring_batches, training_batches
from experiments.training.schedules import SCHEDULES, method_of


def numbered(count, **more):
    examples = {"number": np.arange(count)}
    return Data(examples, examples, examples, **more)


def numbers(batches):
    return [batch["number"].tolist() for batch in batches]


def test_each_epoch_sees_other_batches_in_another_order():
    seen = numbers(training_batches(numbered(10), 3, seed=0, epochs=2))
    assert len(seen) == 6
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
    assert len(set(first)) == len(set(second)) == 9
    assert first.tolist() != second.tolist()
    assert numbers(training_batches(numbered(10), 3, seed=0, epochs=2)) == seen
    assert numbers(training_batches(numbered(10), 3, seed=1, epochs=2)) != seen


def test_ordered_examples_stay_in_order():
    assert (
        numbers(training_batches(numbered(7, ordered=True), 3, 0, 2))
        == [
            [0, 1, 2],
            [3, 4, 5],
        ]
        * 2
    )


def test_batches_go_on_where_they_were_cut_with_the_same_changes():
    def change(batch, generator):
        return {"number": batch["number"] + generator.integers(0, 1000, len(batch["number"]))}

    data = numbered(20, augment=change)
    whole = training_batches(data, 4, 0, 3)
    seen = numbers(next(whole) for _ in range(7))
    place = whole.get_state()
    rest = numbers(whole)
    again = training_batches(data, 4, 0, 3)
    again.set_state(json.loads(json.dumps(place)))
    assert numbers(again) == rest
    assert len(seen) + len(rest) == 15


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("augment", [None, lambda batch, generator: batch])
def test_no_batch_is_ever_written_to_again(ordered, augment):
    """A compiled step may read a batch of NumPy after the call has returned."""
    data = numbered(20, ordered=ordered, augment=augment)
    for read in (
        lambda: training_batches(data, 4, seed=0, epochs=2),
        lambda: measuring_batches(data.test, 6),
    ):
        arrays = [data.train["number"], *(batch["number"] for batch in read())]
        assert [array.tolist() for array in arrays[1:]] == numbers(read())
        for one, other in itertools.combinations(arrays, 2):
            assert not np.shares_memory(one, other)


def test_measuring_counts_every_example_once():
    batches = list(measuring_batches({"number": np.arange(7)}, 3))
    assert [batch["number"].shape for batch in batches] == [(3,)] * 3
    kept = np.concatenate([batch["number"][batch["weight"] == 1] for batch in batches])
    assert kept.tolist() == list(range(7))


def test_batches_are_full_and_repeat_no_example():
    batches = epoch_batches(jax.random.key(0), examples=35, batch_size=8)
    assert batches.shape == (4, 8)
    assert len(np.unique(batches)) == 32
    assert not np.array_equal(batches, epoch_batches(jax.random.key(1), 35, 8))


@pytest.mark.parametrize("name", [name for name, shape in SCHEDULES.items() if shape])
def test_schedules_stay_between_zero_and_one(name):
    values = np.array([SCHEDULES[name](40)(count) for count in range(40)])
    assert values.max() == 1
    assert values.min() >= 0
    assert (np.diff(values[values.argmax() :]) <= 1e-7).all()


def test_schedules_are_what_they_are_said_to_be():
    steps, at = 40, np.array
    cosine = (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2
    later = (1 + np.cos(np.pi * np.arange(36) / 36)) / 2
    rise = np.arange(4) / 4
    expected = {
        "cosine": cosine,
        "warmup-cosine": np.concatenate([rise, later]),
        "warmup-linear": np.concatenate([rise, 1 - np.arange(36) / 36]),
        "step": np.repeat(at([1.0, 0.1]), at([30, 10])),
        "two-steps": np.repeat(at([1.0, 0.1, 0.01]), at([20, 9, 11])),
        "halving": np.repeat(0.5 ** np.arange(7), np.diff(np.arange(8) * steps // 7)),
    }
    for name, values in expected.items():
        found = [SCHEDULES[name](steps)(count) for count in range(steps)]
        np.testing.assert_allclose(found, values, atol=1e-6, err_msg=name)
    assert SCHEDULES.keys() == {"constant", *expected}


@pytest.mark.parametrize(("own", "expected"), [(None, 0.01), (0.5, 0.5)])
def test_a_run_s_own_weight_decay_comes_before_the_task_s(own, expected):
    protocol = load_task("digits").protocol
    protocol = dataclasses.replace(protocol, weight_decay=0.01, schedule="constant")
    tx = method_of(protocol, "adamw", "plain", 0.1, 10, own).transform
    params = {"w": np.float32(2.0)}
    updates, _ = tx.update({"w": np.float32(0.0)}, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.1 * expected * 2.0, rtol=1e-6)
