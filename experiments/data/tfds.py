"""Images of TensorFlow Datasets, read from disk as NumPy arrays; TensorFlow is not needed."""

import functools
import os
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from experiments.errors import UsageError, require

DATA_DIR_VARIABLE = "TFDS_DATA_DIR"
_DEFAULT_DATA_DIR = os.path.join("~", "tensorflow_datasets")  # where TFDS itself looks
_RECORDS_PER_READ = 500


def data_directory(data_dir: str | None = None) -> str:
    """Returns where data sets are looked for: ``data_dir``, else ``TFDS_DATA_DIR``, else TFDS's."""
    return data_dir or os.environ.get(DATA_DIR_VARIABLE) or os.path.expanduser(_DEFAULT_DATA_DIR)


def load_images(
    name: str, split: str, data_dir: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Reads the images and labels of one split of a prepared data set. Nothing is downloaded.

    Decoding takes about half a millisecond an image, once per process: the arrays are kept, hence
    read-only.

    Args:
        name: the data set's name in TFDS, such as ``"cifar10"``.
        split: a split or a part of one, such as ``"test"`` or ``"train[:10%]"``.
        data_dir: the folder that holds the data set's folder; default: the environment variable
            ``TFDS_DATA_DIR``, and without it ``~/tensorflow_datasets``.

    Returns:
        Images, uint8 ``[examples, height, width, channels]``, and labels, int32 ``[examples]``.

    Raises:
        UsageError: TFDS is not installed, the data set or split does not exist or is not prepared
            in that folder, or it does not consist of labelled images of one size.
    """
    return _load_images(name, split, data_directory(data_dir))


@functools.cache
def _load_images(name: str, split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    source = _open(name, split, data_dir)
    starts = track(
        range(0, len(source), _RECORDS_PER_READ),
        description=f"decoding {name} {split}",
        console=Console(stderr=True),
        transient=True,
        disable=not Console(stderr=True).is_terminal,
    )
    records = []
    for start in starts:
        indices = range(start, min(start + _RECORDS_PER_READ, len(source)))
        records += [
            (record["image"], record["label"]) for record in source.__getitems__(list(indices))
        ]
    if len({image.shape for image, _ in records}) != 1:
        raise UsageError(
            f"the images of {name!r} {split!r} are none or differ in size; choose a data set whose "
            "images all have one size, and a split that is not empty"
        )
    images = np.stack([image for image, _ in records])
    labels = np.array([label for _, label in records], np.int32)
    images.setflags(write=False)
    labels.setflags(write=False)
    return images, labels


def prepared_builder(name: str, data_dir: str) -> Any:
    """Returns TFDS's builder of a data set that is on disk.

    Args:
        name: the data set's name in TFDS, with its configuration if it has any.
        data_dir: the folder that holds the data set's folder.

    Raises:
        UsageError: TFDS is not installed, or the data set does not exist or is not prepared there;
            the message says what to do.
    """
    require("tensorflow_datasets")
    import tensorflow_datasets as tfds

    builder: Any
    try:
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except ValueError as error:  # a name that is neither in that folder nor in TFDS's code
        raise UsageError(
            f"data set {name!r} is not in {data_dir!r}: {str(error).splitlines()[0]} "
            f"Is {name!r} a name in TFDS?"
        ) from error
    if not builder.is_prepared():
        raise UsageError(
            f"data set {builder.info.full_name} is not in {data_dir!r}; set {DATA_DIR_VARIABLE} or "
            "give --data-dir the folder that holds it, or prepare it there with: python -c "
            f"\"import tensorflow_datasets as tfds; tfds.builder('{name}', data_dir={data_dir!r}, "
            "file_format='array_record').download_and_prepare()\""
        )
    return builder


def _open(name: str, split: str, data_dir: str) -> Any:
    """Returns the random-access source of the split, or says what to do about its absence."""
    builder = prepared_builder(name, data_dir)
    missing = {"image", "label"} - set(builder.info.features)
    if missing:
        raise UsageError(
            f"data set {name!r} has no {' and no '.join(sorted(missing))}, only "
            f"{', '.join(sorted(builder.info.features))}; choose one of labelled images"
        )
    try:
        return builder.as_data_source(split=split, decoders={"image": _pillow()})
    except (ValueError, AssertionError) as error:
        raise UsageError(f"{name!r} has no split {split!r}: {error}") from error


def _pillow() -> Any:
    """Decodes images with Pillow, as the extra brings it, whatever else is installed.

    TFDS would take OpenCV if it is there, whose pixels of a JPEG need not be the same ones, and
    recommend it in every process where it is not.
    """
    import tensorflow_datasets as tfds

    @tfds.decode.make_decoder()
    def decode(example: bytes, feature: Any) -> np.ndarray:
        return feature.decode_example_np_with_pil(example, feature.shape[-1])

    return decode()  # pyright: ignore[reportCallIssue]  (what TFDS makes of it takes nothing)
