"""Sentences in two languages: Multi30k (Elliott et al., 2016) from plain files, WMT 2016 from TFDS.

Both languages share one vocabulary. Words are what a regular expression finds in lower-cased text.
"""

import functools
import gzip
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data.folders import file_in, find_data
from experiments.data.text import UNKNOWN, Vocabulary, read_records
from experiments.task import Data, Examples

SPECIALS = ("<pad>", UNKNOWN, "<begin>", "<end>", "<mask>")
PADDING, _, BEGIN, END, MASK = range(len(SPECIALS))

_MULTI30K_PARTS = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")


class Pair(NamedTuple):
    """A sentence and its translation."""

    english: str
    german: str


class Corpus(NamedTuple):
    """Pairs of sentences, none longer than was asked for, and the words of the training ones."""

    train: Sequence[Pair]
    validation: Sequence[Pair]
    test: Sequence[Pair]
    vocabulary: Vocabulary


def words_of(sentence: str) -> list[str]:
    """Returns the words and punctuation marks of a sentence, in lower case."""
    return _WORD.findall(sentence.lower())


def read_multi30k(
    data_dir: str | None,
    *,
    vocabulary: int,
    length: int,
    train: int | None = None,
    measured: int | None = None,
) -> Corpus:
    """Reads the English and German captions of Multi30k, the test part being that of 2016.

    Args:
        data_dir: as for :func:`~experiments.data.folders.find_data`.
        vocabulary: number of words of both languages.
        length: largest number of words of a sentence; pairs with a longer one are left out.
        train: number of training pairs, None for all.
        measured: number of validation and of test pairs, None for all.

    Raises:
        UsageError: a file is not there.
    """
    folder = find_data("text", ("multi30k",), data_dir)
    pairs = {
        part: map(Pair, *(_lines(folder, f"{file}.{language}") for language in ("en", "de")))
        for part, file in _MULTI30K_PARTS.items()
    }
    return _corpus(pairs, vocabulary, length, train, measured)


def read_wmt16(data_dir: str | None, *, vocabulary: int, length: int) -> Corpus:
    """Reads TFDS's ``wmt16_translate/de-en``; the arguments are as for :func:`read_multi30k`."""
    pairs = {
        part: (
            Pair(record["en"].decode(), record["de"].decode())
            for record in read_records("wmt16_translate/de-en", part, data_dir)
        )
        for part in ("train", "validation", "test")
    }
    return _corpus(pairs, vocabulary, length, None, None)


def translation_data(corpus: Corpus, length: int) -> Data:
    """Returns English sentences and what to foretell of the German ones.

    Returns:
        ``source``, int32 ``[sentences, length + 1]``, ended; ``target``, int32
        ``[sentences, length + 2]``, begun and ended. For measuring also ``reference``, uint8
        ``[sentences, bytes]``: the German sentence in lower case, in UTF-8. All padded with 0.
    """
    encode = functools.partial(_encoded, corpus.vocabulary)

    def examples(pairs: Sequence[Pair]) -> Examples:
        return {
            "source": padded(([*encode(pair.english), END] for pair in pairs), length + 1),
            "target": padded(([BEGIN, *encode(pair.german), END] for pair in pairs), length + 2),
        }

    def measured(pairs: Sequence[Pair]) -> Examples:
        texts = [list(pair.german.lower().encode()) for pair in pairs]
        reference = padded(texts, max(map(len, texts)), np.uint8)
        return {**examples(pairs), "reference": reference}

    return Data(examples(corpus.train), measured(corpus.validation), measured(corpus.test))


def fake_translation(vocabulary: int, length: int) -> Data:
    """Draws a few sentences of each part and of all lengths, always the same."""
    generator = np.random.default_rng(0)

    def sentence() -> list[int]:
        words = generator.integers(len(SPECIALS), vocabulary, generator.integers(1, length + 1))
        return words.tolist()

    def draw(count: int) -> Examples:
        return {
            "source": padded(([*sentence(), END] for _ in range(count)), length + 1),
            "target": padded(([BEGIN, *sentence(), END] for _ in range(count)), length + 2),
        }

    def measured(count: int) -> Examples:
        reference = np.frombuffer(b"ein mann singt." * count, np.uint8).reshape(count, -1)
        return {**draw(count), "reference": reference}

    return Data(draw(8), measured(6), measured(6))


def pair_examples(
    pairs: Sequence[tuple[str, str]], vocabulary: Vocabulary, length: int
) -> Examples:
    """Returns both sentences of each pair as one row.

    Args:
        pairs: sentences of at most ``length`` words.
        vocabulary: numbers them.
        length: largest number of words of a sentence.

    Returns:
        ``tokens``, int32 ``[pairs, 2 * length + 3]``: begin, first, end, second, end, padding;
        and ``segments``, int32 of that shape: 1 from the second sentence on, else 0.
    """
    encode = functools.partial(_encoded, vocabulary)
    rows = [([BEGIN, *encode(first), END], [*encode(second), END]) for first, second in pairs]
    size = 2 * length + 3
    return {
        "tokens": padded((first + second for first, second in rows), size),
        "segments": padded(([0] * len(first) + [1] * len(second) for first, second in rows), size),
    }


def matching_examples(pairs: Sequence[Pair], vocabulary: Vocabulary, length: int) -> Examples:
    """Gives every other English sentence the German one of another pair.

    Returns:
        As :func:`pair_examples`, and ``label``, int32 ``[pairs]``: 1 where the two belong together.
    """
    others = [other.german for other in pairs[1::2]]
    wrong = [*others[1:], *others[:1]]
    mixed = list(pairs)
    mixed[1::2] = [
        pair._replace(german=german) for pair, german in zip(pairs[1::2], wrong, strict=True)
    ]
    label = 1 - np.arange(len(pairs), dtype=np.int32) % 2
    return {**pair_examples(mixed, vocabulary, length), "label": label}


def fake_matching(vocabulary: int, size: int) -> Data:
    """Draws a few rows of ``size`` tokens of each part, some of them padded, always the same."""
    generator = np.random.default_rng(0)

    def draw(count: int) -> Examples:
        tokens = generator.integers(len(SPECIALS), vocabulary, (count, size), np.int32)
        lengths = generator.integers(size // 2 + 1, size + 1, count)
        return {
            "tokens": np.where(np.arange(size) < lengths[:, None], tokens, PADDING),
            "segments": np.tile((np.arange(size) >= size // 2).astype(np.int32), (count, 1)),
            "label": np.arange(count, dtype=np.int32) % 2,
        }

    return Data(draw(8), draw(6), draw(6))


def padded(
    rows: Iterable[Sequence[int]], length: int, dtype: type[np.integer] = np.int32
) -> np.ndarray:
    """Returns the rows as one array, ``[rows, length]``, 0 behind their ends."""
    listed = list(rows)
    array = np.zeros((len(listed), length), dtype)
    for number, row in enumerate(listed):
        array[number, : len(row)] = row
    return array


def _encoded(vocabulary: Vocabulary, sentence: str) -> list[int]:
    return vocabulary.encode(words_of(sentence)).tolist()


def _corpus(
    pairs: Mapping[str, Iterable[Pair]],
    vocabulary: int,
    length: int,
    train: int | None,
    measured: int | None,
) -> Corpus:
    def short(part: str, count: int | None) -> list[Pair]:
        fitting = (
            pair
            for pair in pairs[part]
            if all(len(words_of(sentence)) <= length for sentence in pair)
        )
        return list(itertools.islice(fitting, count))

    kept = short("train", train)
    words = (word for pair in kept for sentence in pair for word in words_of(sentence))
    return Corpus(
        kept,
        short("validation", measured),
        short("test", measured),
        Vocabulary(words, vocabulary, SPECIALS),
    )


def _lines(folder: Path, name: str) -> list[str]:
    """Returns the lines of a file that may be compressed."""
    file = file_in(folder, (name, f"{name}.gz"), "text")
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return content.decode("utf-8").split("\n")[: content.count(b"\n")]
