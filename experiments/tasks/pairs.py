"""Tasks that classify pairs of sentences: what they share but for encoder and pairs."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.data.parallel_text import fake_matching
from experiments.models.bert import PairClassifier
from experiments.task import Batch, Data, Protocol, Task, Variables, gradient_of
from experiments.tasks.images import ACCURACY, classification_sums

_COUNTS = ("hits", "named", "meant")

Loaded = tuple[Mapping[str, Any], Data]
"""The parameters that training starts from, and what it learns from."""


def pair_task(
    *,
    name: str,
    preset: str,
    encoder: Any,
    labels: int,
    f1: bool,
    load: Callable[[str | None], Loaded],
    protocol: Protocol,
    size: int,
    parameters: int,
) -> Task:
    """Returns the task of classifying pairs, all runs starting from the same pretrained encoder.

    Args:
        name: the task's name.
        preset: its preset.
        encoder: the encoder.
        labels: number of classes.
        f1: whether F1 of the label 1 is measured too.
        load: reads the pretrained parameters; ``tokens`` and ``segments``, int32 ``[pairs, size]``;
            and ``label``, int32 ``[pairs]``.
        protocol: how it is trained.
        size: number of tokens of a pair.
        parameters: number of parameters that the network should have.
    """
    model = PairClassifier(encoder, outputs=labels)
    start: dict[str, Any] = {}  # what is pretrained, once there is data

    def load_and_start(data_dir: str | None) -> Data:
        found, data = load(data_dir)
        start.update(found)
        return data

    def init(key: jax.Array) -> Variables:
        """Draws parameters, but those that are pretrained."""
        tokens = jnp.zeros((1, size), jnp.int32)
        params = model.init(key, tokens, tokens, train=False)["params"]
        return Variables({**params, **start}, {})

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
        counts = f1_counts(logits, batch) if f1 else {}
        return {**classification_sums(logits, batch), **counts}, variables.state

    return Task(
        name=name,
        preset=preset,
        load=load_and_start,
        fake=lambda: fake_matching(encoder.vocabulary, size),
        init=init,
        gradient=gradient_of(loss),
        measure=measure,
        metric=ACCURACY,
        protocol=protocol,
        parameters=parameters,
        derive=with_f1 if f1 else dict,
    )


def f1_counts(logits: jax.Array, batch: Batch) -> Mapping[str, jax.Array]:
    """Returns how many pairs of weight 1 were rightly named 1, were named 1, and are 1."""
    named, meant = logits.argmax(axis=-1) == 1, batch["label"] == 1
    counts = zip(_COUNTS, (named & meant, named, meant), strict=True)
    return {name: jnp.sum(batch["weight"] * count) for name, count in counts}


def with_f1(means: Mapping[str, float]) -> Mapping[str, float]:
    """Puts F1 in percent in the place of the counts that it is made of; 0 where there are none."""
    hits, named, meant = (means[name] for name in _COUNTS)
    f1 = 200 * hits / (named + meant) if named + meant else 0.0
    return {name: mean for name, mean in means.items() if name not in _COUNTS} | {"f1": f1}
