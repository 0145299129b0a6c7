"""GNMT from English to German, as in XGrad (arXiv 2305.18240), section 4.3."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.parallel_text import (
    BEGIN,
    END,
    SPECIALS,
    Corpus,
    fake_translation,
    read_multi30k,
    read_wmt16,
    translation_data,
)
from experiments.data.text import Vocabulary
from experiments.errors import require
from experiments.models.seq2seq import Translator
from experiments.rates import usual_rates
from experiments.task import (
    Batch,
    Data,
    Examples,
    Metric,
    Protocol,
    Task,
    Variables,
    gradient_of,
)
from experiments.tasks.language import PERPLEXITY, token_losses, with_perplexity
from experiments.training.batches import measuring_batches

_BLEU = Metric("bleu", "BLEU", higher_is_better=True)
_DECODED_AT_ONCE = 500
_SPACE_BEFORE_MARK = re.compile(r"\s+([.,!?;:])")


def translation(name: str, preset: str) -> Task:
    """Returns the task.

    On a CPU short captions of Multi30k, two narrow layers and 1,500 words, judged by perplexity;
    BLEU is recorded too, of short captions in lower case, and so not comparable with published
    ones. In the paper WMT 2016 and four layers, on 32,320 words, as many as the paper has
    sub-words: those are not made here. Batches of 64, 8 passes and Adam's 3e-4 are PipeOptim's
    (arXiv 2312.00839), by the author of XGrad.
    """
    if preset == "cpu":
        vocabulary, length = 1_500, 10
        return _translation_task(
            name,
            preset,
            Translator(vocabulary, width=64, layers=2),
            length,
            lambda data_dir: read_multi30k(
                data_dir, vocabulary=vocabulary, length=length, train=5_000, measured=500
            ),
            Protocol(
                learning_rates=usual_rates(sgdm=0.5, adam=4e-3),
                batch_size=32,
                epochs=5,
                schedule="warmup-cosine",
                clip_norm=1.0,
            ),
            parameters=399_709,
            metric=PERPLEXITY,  # BLEU is near 2 after minutes of training, and mostly noise
        )
    vocabulary, length = 32_320, 50
    return _translation_task(
        name,
        preset,
        Translator(vocabulary, width=1024, layers=4, dropout=0.2),
        length,
        lambda data_dir: read_wmt16(data_dir, vocabulary=vocabulary, length=length),
        Protocol(
            learning_rates=usual_rates(sgdm=0.5, adam=3e-4),
            batch_size=64,
            epochs=8,
            schedule="warmup-cosine",
            clip_norm=5.0,
            measure_batch_size=64,
        ),
        # NVIDIA's reference implementation has 160,671,297, but two biases per gate: 4,096 numbers
        # more for each of its 9 LSTMs.
        parameters=160_634_433,
        metric=_BLEU,
    )


def _translation_task(
    name: str,
    preset: str,
    model: Translator,
    length: int,
    read: Callable[[str | None], Corpus],
    protocol: Protocol,
    parameters: int,
    metric: Metric,
) -> Task:
    """Returns the task of translating sentences of at most ``length`` words."""
    known: list[Vocabulary] = []  # of the data read last

    def load(data_dir: str | None) -> Data:
        require("sacrebleu")  # said now, not after the first epoch
        corpus = read(data_dir)
        known[:] = [corpus.vocabulary]
        return translation_data(corpus, length)

    def init(key: jax.Array) -> Variables:
        tokens = jnp.zeros((1, length), jnp.int32)
        return Variables(model.init(key, tokens, tokens, train=False)["params"], {})

    def losses(params: Any, batch: Batch, key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Returns the loss of each written token and which are not padding, both a matrix."""
        logits: Any = model.apply(
            {"params": params},
            batch["source"],
            batch["target"][:, :-1],
            train=key is not None,
            rngs={} if key is None else {"dropout": key},
        )
        targets = batch["target"][:, 1:]
        each = token_losses(logits, targets)
        return each, (targets != 0).astype(each.dtype)

    def loss(params: Any, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        each, written = losses(params, batch, key)
        return jnp.sum(each * written) / jnp.sum(written), state

    def measure(variables: Variables, batch: Batch) -> tuple[Mapping[str, jax.Array], Any]:
        each, written = losses(variables.params, batch, None)
        weight = written * batch["weight"][:, None]
        return {"loss": jnp.sum(each * weight), "weight": jnp.sum(weight)}, variables.state

    decode = jax.jit(functools.partial(greedy_translation, model, length=length + 1))

    def score(variables: Variables, examples: Examples) -> Mapping[str, float]:
        batches = measuring_batches({"source": examples["source"]}, _DECODED_AT_ONCE)
        tokens = [np.asarray(decode(variables.params, batch["source"])) for batch in batches]
        references = [bytes(row[row != 0]).decode() for row in examples["reference"]]
        words = known[0].words if known else [str(number) for number in range(model.vocabulary)]
        hypotheses = [sentence(row, words) for row in np.concatenate(tokens)[: len(references)]]
        return {"bleu": bleu(hypotheses, references)}

    return Task(
        name=name,
        preset=preset,
        load=load,
        fake=lambda: fake_translation(model.vocabulary, length),
        init=init,
        gradient=gradient_of(loss),
        measure=measure,
        metric=metric,
        protocol=protocol,
        parameters=parameters,
        derive=with_perplexity,
        score=score,
    )


def greedy_translation(model: Translator, params: Any, source: jax.Array, length: int) -> jax.Array:
    """Writes the most likely token each time.

    Args:
        model: the model.
        params: its parameters.
        source: tokens, ``[sentences, words]``.
        length: number of tokens to write; what follows a sentence's end means nothing.

    Returns:
        Tokens, int32 ``[sentences, length]``.
    """
    variables = {"params": params}
    memory = model.apply(variables, source, method="read")
    never = jnp.arange(model.vocabulary) < len(SPECIALS)
    never = never.at[END].set(False)

    def write(carry: Any, _: None) -> tuple[Any, jax.Array]:
        states, token = carry
        logits, states = model.apply(variables, token[:, None], memory, states, method="write")
        token = jnp.where(never, -jnp.inf, logits[:, 0]).argmax(axis=-1)
        return (states, token), token

    first = jnp.full(len(source), BEGIN)
    _, tokens = jax.lax.scan(write, (model.initial_carry(len(source)), first), length=length)
    return tokens.swapaxes(0, 1)


def sentence(tokens: np.ndarray, words: Any) -> str:
    """Returns the text of tokens up to their end, marks next to the word before."""
    ended = np.append(tokens, END)
    text = " ".join(words[token] for token in ended[: np.argmax(ended == END)])
    return _SPACE_BEFORE_MARK.sub(r"\1", text)


def bleu(hypotheses: list[str], references: list[str]) -> float:
    """Returns BLEU as sacreBLEU (Post, arXiv 1804.08771) computes it, 0 to 100.

    Args:
        hypotheses: what was written, a text a sentence.
        references: what should have been, one for each.

    Raises:
        ValueError: there are more of the one than of the other.
        UsageError: sacreBLEU is not installed.
    """
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses for {len(references)} references; give one for each: "
            "sacreBLEU would leave out the rest of the longer list and not say so"
        )
    require("sacrebleu")
    import sacrebleu

    return sacrebleu.corpus_bleu(hypotheses, [references]).score
