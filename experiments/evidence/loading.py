"""Batches: shuffled, changed at random and read ahead by Grain; they go on where a run was cut."""

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from experiments.data import number_of_examples, take
from experiments.evidence.task import Data, Examples

_READ_AHEAD = 4  # batches; more only takes memory


def steps_per_epoch(data: Data, batch_size: int) -> int:
    """Returns the number of full batches; what is left over sits out the epoch."""
    return number_of_examples(data.train) // batch_size


def training_batches(data: Data, batch_size: int, seed: int, epochs: int) -> Any:
    """Returns an iterator over the training batches of all epochs.

    Everything random follows from ``seed``. The iterator's ``get_state`` and ``set_state`` let it
    go on from any batch.

    Args:
        data: the data set.
        batch_size: examples per batch.
        seed: decides orders and changes.
        epochs: number of passes.
    """
    indices = grain.MapDataset.range(number_of_examples(data.train)).seed(seed)
    ordered = indices if data.ordered else indices.shuffle()
    # Indices are batched, not examples: the arrays are then cut once a batch.
    batches = ordered.batch(batch_size, drop_remainder=True).repeat(epochs)

    def read(indices: np.ndarray, generator: np.random.Generator) -> Examples:
        batch = take(data.train, indices)
        return data.augment(batch, generator) if data.augment else batch

    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_READ_AHEAD)
    return iter(batches.random_map(read).to_iter_dataset(options))


def measuring_batches(examples: Examples, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields all examples in order, in batches of one size, with the weight of each row.

    The last batch is filled up with its own last example, at weight 0.
    """
    count = number_of_examples(examples)
    for start in range(0, count, batch_size):
        indices = np.arange(start, start + batch_size)
        weight = (indices < count).astype(np.float32)
        yield {**take(examples, np.minimum(indices, count - 1)), "weight": weight}
