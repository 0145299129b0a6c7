"""Pretraining of an encoder: words are hidden, and it learns to name them (arXiv 1810.04805)."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.progress import track

from experiments.data.parallel_text import MASK, SPECIALS, pair_examples
from experiments.data.text import Vocabulary
from experiments.models.bert import MaskedLanguageModel
from experiments.task import Examples

_STEPS, _BATCH_SIZE, _LEARNING_RATE = 1_000, 64, 2e-3
_SHARE_HIDDEN = 0.15  # of the places of a pair


def pretrained(
    encoder: Any, pairs: Sequence[tuple[str, str]], vocabulary: Vocabulary, length: int
) -> Any:
    """Returns an encoder's parameters after a while of naming hidden words, always the same.

    Args:
        encoder: the :class:`~experiments.models.bert.Encoder` that is to learn.
        pairs: sentences.
        vocabulary: numbers their words.
        length: largest number of words of a sentence.
    """
    return _pretrained(encoder, tuple(pairs), vocabulary, length)


@functools.cache
def _pretrained(
    encoder: Any, pairs: tuple[tuple[str, str], ...], vocabulary: Vocabulary, length: int
) -> Any:
    model = MaskedLanguageModel(encoder)
    examples = pair_examples(pairs, vocabulary, length)
    hidden_words = round(_SHARE_HIDDEN * examples["tokens"].shape[1])
    rate = optax.warmup_cosine_decay_schedule(0.0, _LEARNING_RATE, _STEPS // 10, _STEPS)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=0.01))

    def loss(params: Any, batch: Examples, key: jax.Array) -> jax.Array:
        tokens = jnp.asarray(batch["tokens"])
        choice, dropout = jax.random.split(key)
        hidden = places_to_hide(tokens, choice, hidden_words)
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
    places = jnp.zeros((1, hidden_words), jnp.int32)
    params = model.init(jax.random.key(0), first["tokens"], first["segments"], places, train=False)[
        "params"
    ]
    opt_state = optimizer.init(params)
    generator = np.random.default_rng(0)
    console = Console(stderr=True)
    for number in track(
        range(_STEPS), "pretraining", console=console, disable=not console.is_terminal
    ):
        chosen = generator.integers(0, len(pairs), _BATCH_SIZE)
        batch = {name: array[chosen] for name, array in examples.items()}
        params, opt_state = step(params, opt_state, batch, jax.random.key(number))
    return jax.tree.map(np.asarray, params["encoder"])


def places_to_hide(tokens: jax.Array, key: jax.Array, count: int) -> jax.Array:
    """Draws places of known and unknown words in each row, ``[rows, count]``."""
    word = (tokens == 1) | (tokens >= len(SPECIALS))
    noise = jnp.where(word, jax.random.uniform(key, tokens.shape), -1.0)
    return jax.lax.top_k(noise, count)[1]
