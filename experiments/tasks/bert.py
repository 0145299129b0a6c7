"""BERT, fine-tuned to tell which sentences belong together, as in XGrad (arXiv 2305.18240)."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.progress import track

from experiments.data.parallel_text import (
    MASK,
    SPECIALS,
    Pair,
    fake_matching,
    matching_examples,
    pair_examples,
    read_multi30k,
)
from experiments.data.paraphrases import load_paraphrases
from experiments.data.text import Vocabulary, text_parents
from experiments.models.bert import Encoder, MaskedLanguageModel, PairClassifier
from experiments.models.pretrained import (
    pair_encoder,
    published_folder,
    read_weights,
)
from experiments.rates import usual_rates
from experiments.task import Batch, Data, Examples, Protocol, Task, Variables, gradient_of
from experiments.tasks.images import ACCURACY, classification_sums

_LENGTH = 12  # words of a sentence
_FINE_TUNED = 3_000
_MEASURED = 500
_PRETRAINING = {"steps": 1_000, "batch_size": 64, "learning_rate": 2e-3}
_HIDDEN = 4  # words a pair, about the 15 % of the paper
_LABELS = 2


def bert(name: str, preset: str) -> Task:
    """Returns the task.

    On a CPU the encoder is small and the pairs are of Multi30k: does the German sentence belong to
    the English one? The first pairs of the training part are for pretraining alone: their words
    are hidden and named, as in arXiv 1901.07291 across languages; fine-tuning has the last 3,000.
    As with published weights, all runs start from the same pretrained encoder, and draw the rest.

    In the paper BERT-base, as published, on MRPC: do two sentences say the same?
    """
    small = preset == "cpu"
    encoder: Any = _encoder(small)
    model = PairClassifier(encoder, outputs=_LABELS)
    pretrained: dict[str, Any] = {}  # parameters that training starts from, once there is data

    def load(data_dir: str | None) -> Data:
        found, data = (_load_small if small else _load_published)(data_dir, encoder)
        pretrained.update(found)
        return data

    def init(key: jax.Array) -> Variables:
        """Draws parameters, but those that are pretrained."""
        tokens = jnp.zeros((1, _size(small)), jnp.int32)
        params = model.init(key, tokens, tokens, train=False)["params"]
        return Variables({**params, **pretrained}, {})

    def logits_of(params: Any, batch: Batch, key: jax.Array | None) -> jax.Array:
        rngs = {} if key is None else {"dropout": key}
        tokens, segments = batch["tokens"], batch["segments"]
        logits: Any = model.apply(
            {"params": params}, tokens, segments, train=key is not None, rngs=rngs
        )
        return logits

    def loss(params: Any, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        logits = logits_of(params, batch, key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return losses.mean(), state

    def measure(variables: Variables, batch: Batch) -> tuple[Mapping[str, jax.Array], Any]:
        logits = logits_of(variables.params, batch, None)
        return classification_sums(logits, batch), variables.state

    return Task(
        name=name,
        preset=preset,
        load=load,
        fake=lambda: fake_matching(encoder.vocabulary, _size(small)),
        init=init,
        gradient=gradient_of(loss),
        measure=measure,
        metric=ACCURACY,
        protocol=Protocol(
            learning_rates=usual_rates(sgdm=0.03 if small else 1e-3, adam=5e-4 if small else 2e-5),
            batch_size=32,
            epochs=6 if small else 3,
            schedule="warmup-linear",
            weight_decay=0.01,
            clip_norm=1.0,
            measure_batch_size=250,
        ),
        # BERT-base, as published: 109,482,240 with its pooler; and 2 * 769 of the head.
        parameters=234_242 if small else 109_482_240 + 1_538,
    )


def _encoder(small: bool) -> Encoder:
    if small:
        return Encoder(2_000, width=64, layers=2, heads=4, positions=_size(small))
    return Encoder(30_522, width=768, layers=12, heads=12, positions=512)


def _size(small: bool) -> int:
    """Returns the number of tokens of a pair."""
    return 2 * _LENGTH + 3 if small else 128


def _load_small(data_dir: str | None, encoder: Any) -> tuple[Mapping[str, Any], Data]:
    """Returns what an encoder has learned from most of Multi30k, and the rest."""
    corpus = read_multi30k(
        data_dir, vocabulary=encoder.vocabulary, length=_LENGTH, measured=_MEASURED
    )
    words = corpus.vocabulary
    learned = _pretrained(encoder, tuple(corpus.train[:-_FINE_TUNED]), words)
    train, validation, test = (
        matching_examples(pairs, words, _LENGTH)
        for pairs in (corpus.train[-_FINE_TUNED:], corpus.validation, corpus.test)
    )
    return {"encoder": learned}, Data(train, validation, test)


def _load_published(data_dir: str | None, encoder: Any) -> tuple[Mapping[str, Any], Data]:
    """Returns what BERT has learned, and MRPC."""
    folder = published_folder(text_parents(data_dir))
    data = load_paraphrases(data_dir, pair_encoder(folder, _size(small=False)))
    return read_weights(folder, encoder), data


@functools.cache
def _pretrained(encoder: Any, pairs: tuple[Pair, ...], vocabulary: Vocabulary) -> Any:
    """Returns an encoder's parameters after a while of naming hidden words, always the same."""
    model = MaskedLanguageModel(encoder)
    examples = pair_examples(pairs, vocabulary, _LENGTH)
    steps, batch_size = int(_PRETRAINING["steps"]), int(_PRETRAINING["batch_size"])
    rate = optax.warmup_cosine_decay_schedule(
        0.0, _PRETRAINING["learning_rate"], steps // 10, steps
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=0.01))

    def loss(params: Any, batch: Examples, key: jax.Array) -> jax.Array:
        tokens = jnp.asarray(batch["tokens"])
        choice, dropout = jax.random.split(key)
        hidden = _places_to_hide(tokens, choice)
        rows = jnp.arange(len(tokens))[:, None]
        masked = tokens.at[rows, hidden].set(MASK)
        logits: Any = model.apply(
            {"params": params},
            masked,
            batch["segments"],
            hidden,
            train=True,
            rngs={"dropout": dropout},
        )
        targets = tokens[rows, hidden]
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    @jax.jit
    def step(params: Any, opt_state: Any, batch: Examples, key: jax.Array) -> tuple[Any, Any]:
        gradient = jax.grad(loss)(params, batch, key)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    first = {name: array[:1] for name, array in examples.items()}
    places = jnp.zeros((1, _HIDDEN), jnp.int32)
    params = model.init(jax.random.key(0), first["tokens"], first["segments"], places, train=False)[
        "params"
    ]
    opt_state = optimizer.init(params)
    generator = np.random.default_rng(0)
    console = Console(stderr=True)
    for number in track(
        range(steps), "pretraining", console=console, disable=not console.is_terminal
    ):
        chosen = generator.integers(0, len(pairs), batch_size)
        batch = {name: array[chosen] for name, array in examples.items()}
        params, opt_state = step(params, opt_state, batch, jax.random.key(number))
    return jax.tree.map(np.asarray, params["encoder"])


def _places_to_hide(tokens: jax.Array, key: jax.Array) -> jax.Array:
    """Draws places of known and unknown words in each row, ``[rows, _HIDDEN]``."""
    word = (tokens == 1) | (tokens >= len(SPECIALS))
    noise = jnp.where(word, jax.random.uniform(key, tokens.shape), -1.0)
    return jax.lax.top_k(noise, _HIDDEN)[1]
