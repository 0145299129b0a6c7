"""Labelled images of TFDS, split, and changed at random as is usual for small photographs."""

import numpy as np

from experiments.data.tfds import load_images
from experiments.task import Data, Examples

_PADDING = 4


def load_labelled_images(
    dataset: str,
    data_dir: str | None,
    *,
    validation: int,
    train: int | None = None,
    test: int | None = None,
    augmented: bool = False,
) -> Data:
    """Reads a data set of TFDS, its records in random order already.

    Args:
        dataset: name in TFDS, such as ``"cifar10"``.
        data_dir: the folder that holds it, None for ``TFDS_DATA_DIR`` or TFDS's own.
        validation: examples taken from the end of the training split.
        train: number of training examples, None for all that are left.
        test: number of test examples, None for all.
        augmented: whether to crop and flip training images at random.

    Returns:
        ``image``, uint8 ``[examples, height, width, channels]``, and ``label``, int32
        ``[examples]``.

    Raises:
        UsageError: the data set is not there.
    """
    images, labels = load_images(dataset, "train", data_dir)
    held_out = slice(len(images) - validation, None)
    kept = slice(0, min(train or len(images), len(images) - validation))
    test_images, test_labels = load_images(dataset, "test", data_dir)
    return Data(
        {"image": images[kept], "label": labels[kept]},
        {"image": images[held_out], "label": labels[held_out]},
        {"image": test_images[:test], "label": test_labels[:test]},
        crop_and_flip if augmented else None,
    )


def fake_labelled_images(shape: tuple[int, int, int], classes: int, augmented: bool) -> Data:
    """Draws a few images of the given ``(height, width, channels)`` and labels, always the same."""
    generator = np.random.default_rng(0)

    def draw(examples: int) -> Examples:
        return {
            "image": generator.integers(0, 256, (examples, *shape), np.uint8),
            "label": generator.integers(0, classes, examples, np.int32),
        }

    return Data(draw(8), draw(6), draw(6), crop_and_flip if augmented else None)


def crop_and_flip(batch: Examples, generator: np.random.Generator) -> Examples:
    """Moves each image by up to 4 pixels, black where nothing was, and mirrors half of them."""
    images = batch["image"]
    count, height, width, _ = images.shape
    border = ((0, 0), (_PADDING, _PADDING), (_PADDING, _PADDING), (0, 0))
    padded = np.pad(images, border)
    tops, lefts = generator.integers(0, 2 * _PADDING + 1, (2, count))
    rows = tops[:, None, None] + np.arange(height)[None, :, None]
    columns = lefts[:, None, None] + np.arange(width)[None, None, :]
    mirrored = generator.random(count) < 0.5
    columns = np.where(mirrored[:, None, None], columns[:, :, ::-1], columns)
    return {**batch, "image": padded[np.arange(count)[:, None, None], rows, columns]}
