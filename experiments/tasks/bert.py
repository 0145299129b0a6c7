"""BERT, fine-tuned to tell what two sentences have to do with each other.

As in XGrad (arXiv 2305.18240), whose pairs are MRPC's.
"""

from collections.abc import Callable
from typing import Any

from experiments.data.folders import parents_of
from experiments.data.parallel_text import matching_examples, read_multi30k
from experiments.data.paraphrases import load_paraphrases
from experiments.data.sentence_pairs import (
    CORPORA,
    numbered_pieces,
    numbered_words,
    read_sentence_pairs,
    shortened,
    vocabulary_of,
)
from experiments.models.bert import Encoder
from experiments.models.pretrained import pair_encoder, published_folder, read_weights
from experiments.rates import usual_rates
from experiments.task import Data, Protocol, Task
from experiments.tasks.masked_words import pretrained
from experiments.tasks.pairs import Loaded, pair_task

_LENGTH = 12  # words of a sentence of Multi30k
_VOCABULARY = 2_000
_FINE_TUNED = 3_000
_MEASURED = 500
_PUBLISHED_LENGTH = 128  # tokens of a pair


def bert(name: str, preset: str) -> Task:
    """Returns the task.

    On a CPU the pairs are of Multi30k: does the German sentence belong to the English one? The
    first pairs of the training part are for pretraining alone: their words are hidden and named, as
    in arXiv 1901.07291 across languages; fine-tuning has the last 3,000.

    In the paper MRPC, as TFDS has it.
    """
    if preset == "cpu":
        encoder = _small_encoder(_VOCABULARY, _LENGTH)
        return _small(name, encoder, lambda data_dir: _load_matching(data_dir, encoder))
    return _published(name, load_paraphrases)


def sentence_pairs(
    name: str, preset: str, *, corpus: str, vocabulary: int, length: int, f1: bool = False
) -> Task:
    """Returns MRPC or SICK from plain files.

    On a CPU the encoder is pretrained on the sentences of the training part.

    Args:
        name: the task's name.
        preset: its preset.
        corpus: key into ``CORPORA``.
        vocabulary: on a CPU, number of words.
        length: on a CPU, number of words of a sentence; what is behind them is cut off.
        f1: whether F1 of the label 1 is measured too.
    """
    labels = len(CORPORA[corpus].labels)
    if preset == "cpu":
        encoder = _small_encoder(vocabulary, length)

        def load(data_dir: str | None) -> Loaded:
            return _load_words(corpus, length, data_dir, encoder)

        return _small(name, encoder, load, labels, f1)

    def load_pieces(data_dir: str | None, tokenizer: Any) -> Data:
        train, validation, test = (
            numbered_pieces(part, tokenizer) for part in read_sentence_pairs(corpus, data_dir)
        )
        return Data(train, validation, test)

    return _published(name, load_pieces, labels, f1)


def _small(
    name: str,
    encoder: Any,
    load: Callable[[str | None], Loaded],
    labels: int = 2,
    f1: bool = False,
) -> Task:
    """Returns a task with a small encoder."""
    return pair_task(
        name=name,
        preset="cpu",
        encoder=encoder,
        labels=labels,
        f1=f1,
        load=load,
        protocol=_protocol(sgdm=0.03, adam=5e-4, epochs=6),
        size=encoder.positions,
        parameters=_small_parameters(encoder, labels),
    )


def _published(
    name: str, load_pairs: Callable[[str | None, Any], Data], labels: int = 2, f1: bool = False
) -> Task:
    """Returns a task with BERT-base as published; ``load_pairs`` gets its tokenizer."""
    encoder: Any = Encoder(30_522, width=768, layers=12, heads=12, positions=512)

    def load(data_dir: str | None) -> Loaded:
        folder = published_folder(parents_of("text", data_dir))
        data = load_pairs(data_dir, pair_encoder(folder, _PUBLISHED_LENGTH))
        return read_weights(folder, encoder), data

    return pair_task(
        name=name,
        preset="paper",
        encoder=encoder,
        labels=labels,
        f1=f1,
        load=load,
        protocol=_protocol(sgdm=1e-3, adam=2e-5, epochs=3),
        size=_PUBLISHED_LENGTH,
        # BERT-base, as published: 109,482,240 with its pooler; and the head.
        parameters=109_482_240 + labels * 769,
    )


def _protocol(*, sgdm: float, adam: float, epochs: int) -> Protocol:
    return Protocol(
        learning_rates=usual_rates(sgdm=sgdm, adam=adam),
        batch_size=32,
        epochs=epochs,
        schedule="warmup-linear",
        weight_decay=0.01,
        clip_norm=1.0,
        measure_batch_size=250,
    )


def _small_encoder(vocabulary: int, length: int) -> Any:
    """Returns the encoder of pairs of sentences of so many words."""
    return Encoder(vocabulary, width=64, layers=2, heads=4, positions=2 * length + 3)


def _small_parameters(encoder: Encoder, labels: int) -> int:
    """Counts the embeddings and their normalization, the blocks, the pooler and the head."""
    width = encoder.width
    block = 4 * width * (width + 1) + 4 * width * (2 * width + 1) + width + 4 * width
    embeddings = (encoder.vocabulary + encoder.positions + 2 + 2) * width
    return embeddings + encoder.layers * block + (width + labels) * (width + 1)


def _load_matching(data_dir: str | None, encoder: Encoder) -> Loaded:
    """Returns what an encoder has learned from most of Multi30k, and the rest."""
    corpus = read_multi30k(
        data_dir, vocabulary=encoder.vocabulary, length=_LENGTH, measured=_MEASURED
    )
    words = corpus.vocabulary
    learned = pretrained(encoder, corpus.train[:-_FINE_TUNED], words, _LENGTH)
    train, validation, test = (
        matching_examples(pairs, words, _LENGTH)
        for pairs in (corpus.train[-_FINE_TUNED:], corpus.validation, corpus.test)
    )
    return {"encoder": learned}, Data(train, validation, test)


def _load_words(corpus: str, length: int, data_dir: str | None, encoder: Encoder) -> Loaded:
    """Returns what an encoder has learned from a corpus without its labels, and the corpus."""
    parts = [shortened(part, length) for part in read_sentence_pairs(corpus, data_dir)]
    words = vocabulary_of(parts[0], encoder.vocabulary)
    sentences = [(pair.first, pair.second) for pair in parts[0]]
    learned = pretrained(encoder, sentences, words, length)
    train, validation, test = (numbered_words(part, words, length) for part in parts)
    return {"encoder": learned}, Data(train, validation, test)
