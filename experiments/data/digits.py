"""scikit-learn's handwritten digits: read from the installed package, nothing is downloaded."""

from typing import Any

import numpy as np

from experiments.task import Data, Examples

_SPLIT_SEED = 0


def load_digits() -> Data:
    """Reads the 1,797 digits, a fifth each for validation and for testing.

    Returns:
        ``image``, float32 ``[examples, 64]`` of 0 to 1, and ``label``, int32 ``[examples]``.
    """
    from sklearn import datasets

    bunch: Any = datasets.load_digits()
    parts = stratified_split(bunch.target, validation=0.2, test=0.2, seed=_SPLIT_SEED)
    train, validation, test = (
        _examples(bunch.data[part] / 16, bunch.target[part]) for part in parts
    )
    return Data(train, validation, test)


def fake_digits() -> Data:
    """Draws a few digits of each part, always the same."""
    generator = np.random.default_rng(0)
    train, validation, test = (
        _examples(generator.integers(0, 17, (count, 64)) / 16, generator.integers(0, 10, count))
        for count in (40, 20, 20)
    )
    return Data(train, validation, test)


def _examples(images: np.ndarray, labels: np.ndarray) -> Examples:
    return {"image": images.astype(np.float32), "label": labels.astype(np.int32)}


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
