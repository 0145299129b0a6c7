"""Tasks that foretell the next token of a text: what they share but for network and text."""

import math
from collections.abc import Callable, Mapping
from typing import Any
from typing import Protocol as Interface

import jax
import jax.numpy as jnp
import optax

from experiments.data.text import fake_characters, fake_words, load_characters, load_words
from experiments.models.lstm import LSTMLanguageModel
from experiments.models.transformer import DecoderLanguageModel
from experiments.rates import usual_rates
from experiments.task import Batch, Data, Metric, Protocol, Task, Variables, gradient_of

PERPLEXITY = Metric("perplexity", "perplexity", higher_is_better=False)
_BITS = Metric("bits", "bits per character", higher_is_better=False)
_CHARACTERS = 65
_PUBLISHED_RATES = {1: 1e-3, 2: 1e-2, 3: 1e-2}  # Adam's by layers, in the code of AdaBelief


class LanguageModel(Interface):
    """A Flax module that maps ``(tokens, start, state, train)`` to ``(logits, state)``."""

    init: Callable[..., Any]
    apply: Callable[..., Any]

    def initial_state(self, rows: int) -> Any:
        """Returns the state in front of a text's first window."""
        ...


def language_task(
    *,
    name: str,
    preset: str,
    model: LanguageModel,
    load: Callable[[str | None], Data],
    fake: Callable[[], Data],
    metric: Metric,
    derive: Callable[[Mapping[str, float]], Mapping[str, float]],
    protocol: Protocol,
    parameters: int,
) -> Task:
    """Returns the task of foretelling each next token.

    Args:
        name: the task's name.
        preset: its preset.
        model: tells apart, by ``start``, ``[rows]``, rows that go on and rows that begin anew;
            dropout draws from the stream ``"dropout"``.
        load: reads ``tokens``, int32 ``[rows, window + 1]``, and ``start``, bool ``[rows]``.
        fake: draws such data.
        metric: what the task is judged by.
        derive: adds it to the mean loss per token.
        protocol: how it is trained.
        parameters: number of parameters that the model should have.
    """
    rows = protocol.batch_size

    def init(key: jax.Array) -> Variables:
        state = model.initial_state(rows)
        # A model with learnt positions has as many of them as a window has tokens.
        example = jnp.asarray(fake().train["tokens"][:1, :-1])
        tokens = jnp.zeros((rows, example.shape[1]), jnp.int32)
        variables = model.init(key, tokens, jnp.ones(rows, bool), state, train=False)
        return Variables(variables["params"], state)

    def losses(
        params: Any, state: Any, batch: Batch, key: jax.Array | None
    ) -> tuple[jax.Array, Any]:
        """Returns the loss of each token, ``[rows, window]``, and the state behind the windows."""
        logits, state = model.apply(
            {"params": params},
            batch["tokens"][:, :-1],
            batch["start"],
            state,
            train=key is not None,
            rngs={} if key is None else {"dropout": key},
        )
        return token_losses(logits, batch["tokens"][:, 1:]), state

    def loss(params: Any, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        each, state = losses(params, state, batch, key)
        return each.mean(), state

    def measure(variables: Variables, batch: Batch) -> tuple[Mapping[str, jax.Array], Any]:
        each, state = losses(variables.params, variables.state, batch, None)
        weight = jnp.broadcast_to(batch["weight"][:, None], each.shape)
        return {"loss": jnp.sum(weight * each), "weight": jnp.sum(weight)}, state

    return Task(
        name=name,
        preset=preset,
        load=load,
        fake=fake,
        init=init,
        gradient=gradient_of(loss),
        measure=measure,
        metric=metric,
        protocol=protocol,
        parameters=parameters,
        derive=derive,
    )


def token_losses(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns the loss of each target, ``[rows, time]``, given ``[rows, time, vocabulary]``."""
    # As one long row of tokens, which takes half of the time on a CPU.
    flat = logits.reshape(-1, logits.shape[-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(flat, targets.reshape(-1))
    return losses.reshape(targets.shape)


def with_perplexity(means: Mapping[str, float]) -> Mapping[str, float]:
    """Adds e to the power of the loss per token; infinite where the loss is beyond all bounds."""
    loss = means["loss"]
    return {**means, "perplexity": math.exp(loss) if loss < 700 else math.inf}


def lstm(
    name: str, preset: str, *, layers: int, folder: str = "ptb_small", epochs: int = 6
) -> Task:
    """Returns word-level language modelling on the Penn Treebank, read on from batch to batch.

    Which text it is belongs to the task, so that results on a part of the Treebank never mix with
    those on all of it.

    On a CPU: 1,000 words and a width of 64. In the paper: the "medium" model of Zaremba et al.
    (arXiv 1409.2329), 650 wide and with dropout. XGrad says little of its training; epochs, steps
    of the rate, clipping and Adam's rates are those of AdaBelief's code (arXiv 2010.07468).

    Args:
        name: the task's name.
        preset: its preset.
        layers: number of LSTM layers.
        folder: of the text: ``"ptb_small"`` or ``"ptb_full"``.
        epochs: passes in the CPU preset.
    """
    small = preset == "cpu"
    vocabulary, width, window = (1_000, 64, 20) if small else (10_000, 650, 35)
    batch_size = 20
    return language_task(
        name=name,
        preset=preset,
        model=LSTMLanguageModel(vocabulary, width, layers, dropout=0.0 if small else 0.5),
        load=lambda data_dir: load_words(
            data_dir,
            folder=folder,
            vocabulary=vocabulary,
            window=window,
            batch_size=batch_size,
            measured=10_000 if small else None,
        ),
        fake=lambda: fake_words(vocabulary, window, batch_size),
        metric=PERPLEXITY,
        derive=with_perplexity,
        protocol=Protocol(
            learning_rates=usual_rates(sgdm=1.0, adam=2e-3 if small else _PUBLISHED_RATES[layers]),
            batch_size=batch_size,
            epochs=epochs if small else 200,
            schedule="cosine" if small else "two-steps",
            weight_decay=1e-6,
            clip_norm=1.0 if small else 0.25,
        ),
        parameters=_lstm_parameters(vocabulary, width, layers),
    )


def _lstm_parameters(vocabulary: int, width: int, layers: int) -> int:
    """Counts an embedding, layers of four gates with one bias each, and an output of its own."""
    return vocabulary * width + layers * 4 * width * (2 * width + 1) + (width + 1) * vocabulary


def decoder(name: str, preset: str) -> Task:
    """Returns a small transformer decoder on the characters of ``tiny_shakespeare``.

    On a CPU two layers and part of the text, in the paper preset the six layers, 384 wide, that
    nanoGPT has for this text (there is no paper).
    """
    small = preset == "cpu"
    window = 64 if small else 256
    return language_task(
        name=name,
        preset=preset,
        model=_decoder(small),
        load=lambda data_dir: load_characters(
            data_dir,
            window=window,
            train=200 * 16 * window + 1 if small else None,
            measured=20_000 if small else None,
        ),
        fake=lambda: fake_characters(_CHARACTERS, window),
        metric=_BITS,
        derive=_with_bits,
        protocol=Protocol(
            learning_rates=usual_rates(sgdm=0.1, adam=3e-3 if small else 1e-3),
            batch_size=16 if small else 64,
            epochs=6 if small else 80,
            schedule="warmup-cosine",
            weight_decay=0.1,
            clip_norm=1.0,
            measure_batch_size=64,
        ),
        # nanoGPT's 10.65 million leave out the positions, 98,304 here.
        parameters=106_880 if small else 10_745_088,
    )


def tiny_decoder(name: str, preset: str) -> Task:
    """Returns a decoder for hundreds of runs on two cores: 32 wide, windows of 32, the same text.

    It is the same at both presets.
    """
    window = 32
    return language_task(
        name=name,
        preset=preset,
        model=DecoderLanguageModel(_CHARACTERS, width=32, layers=2, heads=4),
        load=lambda data_dir: load_characters(
            data_dir, window=window, train=6_400 * window + 1, measured=20_000
        ),
        fake=lambda: fake_characters(_CHARACTERS, window),
        metric=_BITS,
        derive=_with_bits,
        protocol=Protocol(
            learning_rates=usual_rates(sgdm=0.1, adam=3e-3),
            batch_size=4,
            epochs=3,
            schedule="warmup-cosine",
            weight_decay=0.1,
            clip_norm=1.0,
            measure_batch_size=64,
        ),
        parameters=27_840,
    )


def _decoder(small: bool) -> DecoderLanguageModel:
    if small:
        return DecoderLanguageModel(_CHARACTERS, width=64, layers=2, heads=4)
    return DecoderLanguageModel(_CHARACTERS, width=384, layers=6, heads=6)


def _with_bits(means: Mapping[str, float]) -> Mapping[str, float]:
    return {**means, "bits": means["loss"] / math.log(2)}
