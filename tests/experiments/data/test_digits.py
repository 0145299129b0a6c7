import jax
import numpy as np
import pytest

from experiments.data import epoch_batches, number_of_examples, stratified_split
from experiments.errors import UsageError
from experiments.optimizers import OPTIMIZERS
from experiments.tasks import TASKS, load_task


@pytest.fixture(autouse=True)
def small_cifar10(monkeypatch):
    """Random images instead of CIFAR-10's, which take half a minute to decode."""

    def load_images(name, split):
        assert name == "cifar10"
        rng = np.random.default_rng(0)
        number = {"train": 6000, "test": 1000}[split]
        images = rng.integers(256, size=(number, 32, 32, 3), dtype=np.uint8)
        return images, rng.integers(10, size=number, dtype=np.int32)

    monkeypatch.setattr("experiments.tasks.cifar10_lenet.load_images", load_images)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_finite_loss_gradient_and_metric(name):
    task = load_task(name)
    key = jax.random.key(0)
    params = task.init(key)
    batch = jax.tree.map(lambda array: array[: task.batch_size], task.load().train)
    loss, gradient = jax.value_and_grad(task.loss)(params, batch, key)
    for value in [loss, task.metric(params, batch, key), *jax.tree.leaves(gradient)]:
        assert np.isfinite(value).all()


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_learning_rate_for_every_optimizer(name):
    task = load_task(name)
    assert task.name == name
    assert set(task.learning_rates) == set(OPTIMIZERS)
    assert task.early_epoch < task.epochs


def test_large_sets_are_measured_in_chunks():
    task = load_task("cifar10-lenet")
    splits = task.load()
    assert [number_of_examples(part) for part in splits] == [1000, 5000, 1000]
    params, key = task.init(jax.random.key(0)), jax.random.key(1)
    halves = [
        jax.tree.map(lambda a, p=p: a[p], splits.test) for p in (slice(500), slice(500, None))
    ]
    for measure in (task.loss, task.metric):
        parts = [measure(params, half, key) for half in halves]
        np.testing.assert_allclose(measure(params, splits.test, key), np.mean(parts), rtol=1e-5)


def test_unknown_task_lists_the_valid_ones():
    with pytest.raises(UsageError, match=r"unknown task 'mnist'; valid: digits"):
        load_task("mnist")


def test_digits_are_all_used_once():
    splits = load_task("digits").load()
    sizes = [number_of_examples(part) for part in splits]
    assert sizes == [1077, 360, 360]


def test_split_is_fixed_disjoint_and_stratified():
    labels = np.repeat(np.arange(4), [100, 50, 40, 10])
    parts = stratified_split(labels, validation=0.2, test=0.1, seed=0)
    again = stratified_split(labels, validation=0.2, test=0.1, seed=0)
    for part, same in zip(parts, again, strict=True):
        np.testing.assert_array_equal(part, same)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(200))
    counts = [np.bincount(labels[part]).tolist() for part in parts]
    assert counts == [[70, 35, 28, 7], [20, 10, 8, 2], [10, 5, 4, 1]]


def test_digits_split_does_not_change_between_versions():
    # A different split would make old run folders incomparable without anyone noticing.
    test = load_task("digits").load().test
    assert test.labels[:8].tolist() == [7, 6, 3, 7, 7, 3, 2, 8]


def test_batches_are_full_and_repeat_no_example():
    batches = epoch_batches(jax.random.key(0), examples=35, batch_size=8)
    assert batches.shape == (4, 8)
    assert len(np.unique(batches)) == 32
    assert not np.array_equal(batches, epoch_batches(jax.random.key(1), 35, 8))
