"""Running text: words of the Penn Treebank from plain files, characters of Shakespeare from TFDS.

A text becomes rows of ``window + 1`` tokens, of which the first ``window`` are read and the last
``window`` are foretold.
"""

import collections
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.folders import file_in, find_data
from experiments.data.tfds import data_directory, prepared_builder
from experiments.task import Data, Examples

UNKNOWN, END = "<unk>", "<eos>"

_PTB_PARTS = ("train", "valid", "test")


class Vocabulary:
    """The most frequent words of a text, numbered from 0.

    Attributes:
        words: the specials, then the words from the most frequent on; short texts are filled up
            with words that do not occur, so that the size is always the one asked for.
    """

    def __init__(self, text: Iterable[str], size: int, specials: Sequence[str]) -> None:
        """Counts the words.

        Args:
            text: all words of the training text, in order.
            size: number of words, with the specials.
            specials: words that are always known; ``"<unk>"`` stands for those that are not.
        """
        counts = collections.Counter(text)
        # Equally frequent words in alphabetical order, so that nothing depends on the text's.
        ranked = sorted(counts.keys() - set(specials), key=lambda word: (-counts[word], word))
        known = [*specials, *ranked][:size]
        self.words = (*known, *(f"<unused {number}>" for number in range(size - len(known))))
        self._numbers = {word: number for number, word in enumerate(self.words)}

    def encode(self, words: Iterable[str]) -> np.ndarray:
        """Returns the number of each word, int32 ``[words]``."""
        unknown = self._numbers[UNKNOWN]
        return np.array([self._numbers.get(word, unknown) for word in words], np.int32)


def load_words(
    data_dir: str | None,
    *,
    folder: str,
    vocabulary: int,
    window: int,
    batch_size: int,
    measured: int | None = None,
) -> Data:
    """Reads the Penn Treebank as Mikolov et al. (2010) preprocessed it, or what a folder has of it.

    A text is cut into ``batch_size`` streams, and row ``batch_size * i + j`` is the i-th window of
    stream j, so that each batch goes on where the one before it stopped. What does not fill a last
    batch is dropped. Words that are not known are ``"<unk>"``; each line ends in ``"<eos>"``.

    Args:
        data_dir: as for :func:`~experiments.data.folders.find_data`.
        folder: its name among the texts.
        vocabulary: number of words.
        window: tokens that a row foretells.
        batch_size: rows per batch, in training and measuring.
        measured: about how many tokens of the validation and the test text to use, None for all.

    Returns:
        ``tokens``, int32 ``[rows, window + 1]``, and ``start``, bool ``[rows]``: whether the row
        begins its stream.

    Raises:
        UsageError: a file is not there.
    """
    place = find_data("text", (folder,), data_dir)
    texts = [_read_ptb(part, place) for part in _PTB_PARTS]
    known = Vocabulary(texts[0], vocabulary, (UNKNOWN, END))
    train, validation, test = (
        streams(known.encode(words[:limit]), window, batch_size)
        for words, limit in zip(texts, (None, measured, measured), strict=True)
    )
    return Data(train, validation, test, ordered=True)


def streams(tokens: np.ndarray, window: int, batch_size: int) -> Examples:
    """Cuts a text into windows that continue each other from batch to batch."""
    windows = (len(tokens) // batch_size - 1) // window
    length = windows * window + 1
    parallel = tokens[: len(tokens) // batch_size * batch_size].reshape(batch_size, -1)[:, :length]
    rows = np.lib.stride_tricks.sliding_window_view(parallel, window + 1, axis=1)[:, ::window]
    start = np.zeros((windows, batch_size), bool)
    start[:1] = True
    return {
        "tokens": np.ascontiguousarray(rows.swapaxes(0, 1).reshape(-1, window + 1)),
        "start": start.reshape(-1),
    }


def load_characters(
    data_dir: str | None,
    *,
    window: int,
    train: int | None = None,
    measured: int | None = None,
) -> Data:
    """Reads ``tiny_shakespeare`` as windows that have nothing to do with each other.

    Args:
        data_dir: the folder that holds TFDS's data sets, None for the usual ones.
        window: characters that a row foretells.
        train: number of training characters, None for all.
        measured: number of validation and of test characters, None for all.

    Returns:
        ``tokens``, int32 ``[rows, window + 1]``, numbered as the training text's 65 characters are
        sorted, and ``start``, bool ``[rows]``, True.

    Raises:
        UsageError: the data set is not there.
    """
    splits = ("train", "validation", "test")
    texts = [read_records("tiny_shakespeare", split, data_dir)[0]["text"] for split in splits]
    characters = [np.frombuffer(text, np.uint8) for text in texts]
    alphabet = np.unique(characters[0])
    limits = (train, measured, measured)
    train_part, validation, test = (
        windows_of(np.searchsorted(alphabet, text[:limit]).astype(np.int32), window)
        for text, limit in zip(characters, limits, strict=True)
    )
    return Data(train_part, validation, test)


def windows_of(tokens: np.ndarray, window: int) -> Examples:
    """Cuts a text into windows that overlap in one token, each a start of its own."""
    rows = np.lib.stride_tricks.sliding_window_view(tokens, window + 1)[::window]
    return {"tokens": np.ascontiguousarray(rows), "start": np.ones(len(rows), bool)}


def fake_words(vocabulary: int, window: int, batch_size: int) -> Data:
    """Draws two batches of each part of a text that reads on, always the same."""
    generator = np.random.default_rng(0)
    length = batch_size * (2 * window + 1)

    def draw() -> Examples:
        return streams(generator.integers(0, vocabulary, length, np.int32), window, batch_size)

    return Data(draw(), draw(), draw(), ordered=True)


def fake_characters(vocabulary: int, window: int) -> Data:
    """Draws a few windows of each part, always the same."""
    generator = np.random.default_rng(0)

    def draw(rows: int) -> Examples:
        tokens = generator.integers(0, vocabulary, rows * window + 1, np.int32)
        return windows_of(tokens, window)

    return Data(draw(8), draw(6), draw(6))


def _read_ptb(part: str, folder: Path) -> list[str]:
    """Returns the words of one part, lines ended by ``"<eos>"``."""
    file = file_in(folder, (f"{part}.txt", f"ptb.{part}.txt"), "text")
    return file.read_text(encoding="utf-8").replace("\n", f" {END} ").split()


def read_records(name: str, split: str, data_dir: str | None) -> Sequence[Any]:
    """Returns a split's records, dictionaries by feature, texts as bytes. Nothing is downloaded.

    Args:
        name: the data set's name in TFDS, with its configuration if it has any.
        split: the split's name, or a part of one.
        data_dir: the folder that holds TFDS's data sets, None for the usual ones.

    Raises:
        UsageError: TFDS is not installed, or the data set is not in that folder.
    """
    return _records(name, split, data_directory(data_dir))


@functools.cache
def _records(name: str, split: str, data_dir: str) -> Sequence[Any]:
    source = prepared_builder(name, data_dir).as_data_source(split=split)
    return source.__getitems__(list(range(len(source))))
