"""Splitting data once and shuffling it every epoch."""

from typing import Any, NamedTuple

import jax
import numpy as np


class Splits(NamedTuple):
    """The three parts of a data set; each is a pytree of arrays with one leading example axis.

    Attributes:
        train: what the optimizers see.
        validation: what hyperparameters are chosen on.
        test: what is reported and nothing is chosen on.
    """

    train: Any
    validation: Any
    test: Any


def stratified_split(
    labels: np.ndarray, validation: float, test: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits example indices into train, validation and test, each with the same class shares.

    Args:
        labels: the class of each example, ``[examples]``.
        validation: share of the examples for validation.
        test: share of the examples for testing.
        seed: fixes the split; it has nothing to do with the seeds of the runs.

    Returns:
        The indices of the training, validation and test examples.
    """
    from sklearn.model_selection import train_test_split

    def split(indices: np.ndarray, share: float) -> Any:
        return train_test_split(
            indices, test_size=share, stratify=labels[indices], random_state=seed
        )

    rest, test_indices = split(np.arange(len(labels)), test)
    train_indices, validation_indices = split(rest, validation / (1 - test))
    return train_indices, validation_indices, test_indices


def number_of_examples(examples: Any) -> int:
    """Returns the length of the leading axis that all arrays in ``examples`` share."""
    return jax.tree.leaves(examples)[0].shape[0]


def epoch_batches(key: jax.Array, examples: int, batch_size: int) -> jax.Array:
    """Returns the example indices of one epoch's batches, ``[steps, batch_size]``.

    Every batch is full: the remainder of ``examples / batch_size`` sits out this epoch, and
    because the order is drawn anew each epoch it is a different remainder each time.
    """
    steps = examples // batch_size
    order = jax.random.permutation(key, examples)
    return order[: steps * batch_size].reshape(steps, batch_size)


def take(examples: Any, indices: jax.Array | np.ndarray) -> Any:
    """Returns the examples at ``indices``."""
    return jax.tree.map(lambda array: array[indices], examples)
