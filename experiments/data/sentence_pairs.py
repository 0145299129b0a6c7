"""Labelled pairs of English sentences from plain files.

MRPC (Dolan & Brockett, 2005): do they say the same? SICK (Marelli et al., 2014): does the second
follow from the first, contradict it, or neither?
"""

import csv
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.data.folders import file_in, find_data
from experiments.data.parallel_text import SPECIALS, pair_examples, words_of
from experiments.data.text import Vocabulary
from experiments.task import Examples


class Corpus(NamedTuple):
    """How a corpus is laid out.

    Attributes:
        train: name of the file of the training part.
        validation: that of the validation part, or how many pairs it takes from the training part's
            end.
        test: name of the file of the test part.
        label: name of the column.
        labels: what it says, in the order of the logits.
    """

    train: str
    validation: str | int
    test: str
    label: str
    labels: Sequence[str]


CORPORA: Mapping[str, Corpus] = {
    # As many as GLUE's validation part has.
    "mrpc": Corpus("train", 408, "test", "label", ("0", "1")),
    "sick": Corpus(
        "train", "trial", "test", "entailment", ("NEUTRAL", "ENTAILMENT", "CONTRADICTION")
    ),
}


class LabelledPair(NamedTuple):
    """Two sentences and the number of their label."""

    first: str
    second: str
    label: int


class Parts(NamedTuple):
    """The pairs of a corpus."""

    train: Sequence[LabelledPair]
    validation: Sequence[LabelledPair]
    test: Sequence[LabelledPair]


def read_sentence_pairs(name: str, data_dir: str | None) -> Parts:
    """Reads a corpus: tab-separated files with a header, in which nothing is quoted.

    Args:
        name: key into ``CORPORA``, and the name of its folder among the texts.
        data_dir: as for :func:`~experiments.data.folders.find_data`.

    Raises:
        UsageError: a file is not there.
    """
    corpus, folder = CORPORA[name], find_data("text", (name,), data_dir)

    def read(part: str) -> Sequence[LabelledPair]:
        path = file_in(folder, (f"{part}.tsv",), "text")
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            return [
                LabelledPair(
                    row["sentence1"], row["sentence2"], corpus.labels.index(row[corpus.label])
                )
                for row in rows
            ]

    train, test = read(corpus.train), read(corpus.test)
    if isinstance(corpus.validation, str):
        return Parts(train, read(corpus.validation), test)
    return Parts(train[: -corpus.validation], train[-corpus.validation :], test)


def shortened(pairs: Sequence[LabelledPair], length: int) -> Sequence[LabelledPair]:
    """Returns the pairs in lower case and marks apart, cut off behind ``length`` words."""

    def beginning(sentence: str) -> str:
        return " ".join(words_of(sentence)[:length])

    return [
        LabelledPair(beginning(pair.first), beginning(pair.second), pair.label) for pair in pairs
    ]


def vocabulary_of(pairs: Sequence[LabelledPair], size: int) -> Vocabulary:
    """Returns the most frequent words of both sentences."""
    words = (word for first, second, _ in pairs for word in words_of(f"{first} {second}"))
    return Vocabulary(words, size, SPECIALS)


def numbered_words(pairs: Sequence[LabelledPair], vocabulary: Vocabulary, length: int) -> Examples:
    """Returns the words of :func:`shortened` pairs by number.

    Returns:
        As :func:`~experiments.data.parallel_text.pair_examples`, and ``label``, int32 ``[pairs]``.
    """
    sentences = [(pair.first, pair.second) for pair in pairs]
    return {**pair_examples(sentences, vocabulary, length), "label": _labels(pairs)}


def numbered_pieces(pairs: Sequence[LabelledPair], encoder: Any) -> Examples:
    """Returns the same by a tokenizer of :func:`~experiments.models.pretrained.pair_encoder`."""
    encoded = encoder.encode_batch([(pair.first, pair.second) for pair in pairs])
    return {
        "tokens": np.array([pair.ids for pair in encoded], np.int32),
        "segments": np.array([pair.type_ids for pair in encoded], np.int32),
        "label": _labels(pairs),
    }


def _labels(pairs: Sequence[LabelledPair]) -> np.ndarray:
    return np.array([pair.label for pair in pairs], np.int32)
