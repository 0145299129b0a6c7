"""Every task of the evidence: known parameter counts, and one step on data of the true shapes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.arms import OF_PAPERS, OPTIMIZERS
from experiments.errors import UsageError
from experiments.task import Variables
from experiments.tasks import PRESETS, TASKS, load_task
from experiments.tasks.constant import training_of
from experiments.training.batches import measuring_batches, take
from experiments.training.loop import Trainer
from experiments.training.scan import draw
from experiments.training.schedules import SCHEDULES
from tests.experiments.quick import jit_quickly, random_variables

# The others' steps are computed elsewhere: those of the text and generative tasks in files of their
# own, those of the deepest networks, which take a minute to compile, by their building blocks.
COMPUTED = ("digits", "lenet", "alexnet", "vgg11", "vit", "mnist")


def first_batch(task, count=4):
    data = task.fake()
    size = task.protocol.batch_size if data.ordered else count
    return take(data.train, np.arange(size) % len(next(iter(data.train.values()))))


@functools.cache
def shapes_of(name, preset):
    return jax.eval_shape(load_task(name, preset).init, jax.random.key(0))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", TASKS)
def test_a_network_has_the_parameters_that_are_known_of_it(name, preset):
    task = load_task(name, preset)
    assert (task.name, task.preset) == (name, preset)
    params, _ = shapes_of(name, preset)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == task.parameters
    assert task.protocol.schedule in SCHEDULES
    assert set(task.protocol.learning_rates) == set(OPTIMIZERS)


def test_what_trains_a_task_refuses_a_network_of_another_size():
    task = dataclasses.replace(load_task("digits"), parameters=8_971)
    message = r"'digits' at preset 'cpu' says 8,971 parameters, its network has 8,970"
    with pytest.raises(UsageError, match=message):
        Trainer(task, task.fake())
    with pytest.raises(UsageError, match=message):
        draw(task, task.fake(), seeds=[0], epochs=1, batch_size=4)


# Of steps that are computed no shapes are asked, and a network with more classes has its own.
TRACED = [
    (name, preset)
    for name in TASKS
    for preset in PRESETS
    if (name, preset) not in {(computed, "cpu") for computed in COMPUTED}
    and not (name.endswith("-cifar100") and preset == "paper")
]


@pytest.mark.parametrize(("name", "preset"), TRACED)
def test_a_step_keeps_shapes_and_dtypes(name, preset):
    task = load_task(name, preset)
    params, state = shapes_of(name, preset)
    found = jax.eval_shape(task.gradient, params, state, first_batch(task), jax.random.key(0))
    assert (found.params, found.state) == (params, state)
    assert found.loss.shape == ()


@pytest.mark.parametrize("name", COMPUTED)
def test_one_step_of_the_cpu_preset(name):
    task, before = load_task(name, "cpu"), random_variables(load_task(name, "cpu"))
    batch = {**first_batch(task), "weight": np.ones(4, np.float32)}

    @jit_quickly
    def step(params, state, batch, key):
        found = task.gradient(params, state, batch, key)
        moved = jax.tree.map(lambda param, slope: param - 1e-3 * slope, params, found.params)
        moved = task.project(moved) if task.project else moved
        sums, _ = task.measure(Variables(moved, found.state), batch)
        return found, moved, sums

    found, moved, sums = step(*before, batch, jax.random.key(1))
    shapes = functools.partial(jax.tree.map, lambda leaf: (leaf.shape, leaf.dtype))
    assert (
        shapes((found.params, found.state)) == shapes(tuple(before)) == shapes((moved, found.state))
    )
    leaves = jax.tree.leaves(found.params)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)
    # A few biases before a normalization have no effect; all else does.
    assert sum(bool((leaf != 0).any()) for leaf in leaves) > 0.6 * len(leaves)
    assert found.loss.shape == ()
    assert jnp.isfinite(found.loss)
    assert set(sums) >= {"weight", task.metric.name}
    assert all(np.isfinite(value) for value in sums.values())


def test_rows_that_only_fill_up_do_not_count():
    task = load_task("digits")
    variables = random_variables(task)
    examples = take(task.fake().validation, np.arange(3))
    measure = jit_quickly(task.measure)
    full, filled = (
        measure(variables, next(measuring_batches(examples, size)))[0] for size in (3, 5)
    )
    for name, value in full.items():
        np.testing.assert_allclose(filled[name], value, rtol=1e-4)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_be_compared(name):
    training = training_of(name)
    assert set(training.learning_rates) == set(OPTIMIZERS)
    assert training.early_epoch < training.protocol.epochs
    assert training.protocol.schedule in SCHEDULES


def test_rates_that_nobody_chose_for_a_task_are_said_to_be_usual():
    training = training_of("digits")
    assert training.origin_of(OF_PAPERS) == training.origin
    assert training.origin_of(["adam", "yogi", "lion"]).endswith("; for yogi, lion as is usual")
    assert training_of("mnist").learning_rates["adam"] == 1e-3


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(UsageError, match=r"unknown task 'imagenet'; valid: digits"):
        load_task("imagenet")
    with pytest.raises(UsageError, match=r"unknown preset 'tpu'; valid: cpu, paper"):
        load_task("digits", "tpu")
