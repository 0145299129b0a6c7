"""Which examples a step sees: drawn inside a program, or read ahead by Grain in a loop."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.errors import UsageError
from experiments.task import Data, Examples

_READ_AHEAD = 4  # batches; more only takes memory


def number_of_examples(examples: Any) -> int:
    """Returns the length of the leading axis that all arrays in ``examples`` share."""
    return jax.tree.leaves(examples)[0].shape[0]


def check_batch(examples: Any, batch_size: int) -> None:
    """Raises a ``UsageError`` if not even one batch can be made of the training examples."""
    if (count := number_of_examples(examples)) < batch_size:
        raise UsageError(
            f"a batch of {batch_size} cannot be made of {count} training examples; give more of "
            "them or smaller batches"
        )


def take(examples: Any, indices: jax.Array | np.ndarray) -> Any:
    """Returns the examples at ``indices``."""
    return jax.tree.map(lambda array: array[indices], examples)


def on_device(data: Data) -> Data:
    """Returns the same data where a compiled program can index them."""
    train, validation, test = jax.tree.map(jnp.asarray, data[:3])
    return data._replace(train=train, validation=validation, test=test)


def epoch_batches(key: jax.Array, examples: int, batch_size: int) -> jax.Array:
    """Returns the example indices of one epoch's batches, ``[steps, batch_size]``.

    Every batch is full: the remainder of ``examples / batch_size`` sits out this epoch, and
    because the order is drawn anew each epoch it is a different remainder each time.
    """
    steps = examples // batch_size
    order = jax.random.permutation(key, examples)
    return order[: steps * batch_size].reshape(steps, batch_size)


def steps_per_epoch(data: Data, batch_size: int) -> int:
    """Returns the number of full batches; what is left over sits out the epoch."""
    return number_of_examples(data.train) // batch_size


def training_batches(data: Data, batch_size: int, seed: int, epochs: int) -> Any:
    """Returns an iterator over the training batches of all epochs.

    They go on where a run was cut: everything random follows from ``seed``, and the iterator's
    ``get_state`` and ``set_state`` let it go on from any batch.

    Args:
        data: the data set.
        batch_size: examples per batch.
        seed: decides orders and changes.
        epochs: number of passes.
    """
    import grain  # not installed where nothing is trained in a loop

    count, steps = number_of_examples(data.train), steps_per_epoch(data, batch_size)

    # Grain is handed steps, and an epoch's order is drawn at once: examples one by one would take
    # it longer than a small network takes to learn from them.
    @functools.lru_cache(maxsize=1)
    def order(epoch: int) -> np.ndarray:
        if data.ordered:
            return np.arange(count)
        return np.random.default_rng((seed, epoch)).permutation(count)

    def read(step: int, generator: np.random.Generator) -> Examples:
        epoch, place = divmod(step, steps)
        batch = take(data.train, order(epoch)[place * batch_size :][:batch_size])
        return data.augment(batch, generator) if data.augment else batch

    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_READ_AHEAD)
    numbers = grain.MapDataset.range(steps * epochs).seed(seed)
    return iter(numbers.random_map(read).to_iter_dataset(options))


def stacked_batches(
    examples: Examples, batch_size: int | None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns all of :func:`measuring_batches` at once, ``[batches, rows, ...]``, and the weights.

    Args:
        examples: what is measured on.
        batch_size: rows of a batch, None for all examples in one.
    """
    count = number_of_examples(examples)
    batches = measuring_batches(examples, min(batch_size or count, count))
    stacked = jax.tree.map(lambda *rows: np.stack(rows), *batches)
    weight = stacked.pop("weight")
    return stacked, weight


def measuring_batches(examples: Examples, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields all examples in order, in batches of one size, with the weight of each row.

    The last batch is filled up with its own last example, at weight 0.
    """
    count = number_of_examples(examples)
    for start in range(0, count, batch_size):
        indices = np.arange(start, start + batch_size)
        weight = (indices < count).astype(np.float32)
        yield {**take(examples, np.minimum(indices, count - 1)), "weight": weight}
