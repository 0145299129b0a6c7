"""Tasks on graphs: to classify papers by what they say and cite."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.data.citations import UPDATES_PER_PASS, fake_citations, load_citations
from experiments.models.graphs import GraphConvolutionNetwork, Links, Words
from experiments.rates import grids
from experiments.task import Batch, Data, Protocol, Task, Variables, gradient_of
from experiments.tasks.images import ACCURACY, classification_sums

_UPDATES = 200
_HIDDEN = 16
_PENALTY = 5e-4


def citations(name: str, preset: str, *, graph: str, vocabulary: int, classes: int) -> Task:
    """Returns a graph convolution network on papers, the same at both presets.

    As in arXiv 1609.02907, section 5: all papers are seen at every step, the labels of 20 of each
    class are learned from, 200 updates at a constant rate. Half of 5e-4 times the squared norm of
    the first layer is part of the loss, whatever the optimizer, and none of its weights decays
    apart from that.

    Args:
        name: the task's name.
        preset: its preset.
        graph: ``"cora"`` or ``"citeseer"``.
        vocabulary: number of different words.
        classes: number of fields that a paper may be of.
    """
    model = GraphConvolutionNetwork(vocabulary, _HIDDEN, classes)

    def fake() -> Data:
        return fake_citations(vocabulary, classes)

    def init(key: jax.Array) -> Variables:
        batch = {name: jnp.asarray(array[:1]) for name, array in fake().train.items()}
        return Variables(model.init(key, *_papers(batch), train=False)["params"], {})

    def logits_of(params: Any, batch: Batch, key: jax.Array | None) -> jax.Array:
        rngs = {} if key is None else {"dropout": key}
        logits: Any = model.apply(
            {"params": params}, *_papers(batch), train=key is not None, rngs=rngs
        )
        return logits

    def loss(params: Any, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        logits = logits_of(params, batch, key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        penalty = _PENALTY / 2 * jnp.sum(params["first"] ** 2)
        return jnp.sum(batch["counted"] * losses) / jnp.sum(batch["counted"]) + penalty, state

    def measure(variables: Variables, batch: Batch) -> tuple[Mapping[str, jax.Array], Any]:
        logits = logits_of(variables.params, batch, None)
        weight = batch["weight"][:, None] * batch["counted"]
        return classification_sums(logits, {**batch, "weight": weight}), variables.state

    return Task(
        name=name,
        preset=preset,
        load=lambda data_dir: load_citations(graph, data_dir),
        fake=fake,
        init=init,
        gradient=gradient_of(loss),
        measure=measure,
        metric=ACCURACY,
        protocol=Protocol(
            learning_rates=grids(sgdm=1.0, adam=0.01),
            batch_size=1,
            epochs=_UPDATES // UPDATES_PER_PASS,
            schedule="constant",
            weight_decay=0.0,
        ),
        parameters=_HIDDEN * (vocabulary + classes),
    )


def _papers(batch: Batch) -> tuple[Words, Links, int]:
    """Returns what the papers say, what they cite, and how many they are."""
    words = Words(batch["word"], batch["word_node"], batch["word_weight"])
    return words, links_of(batch), batch["label"].shape[1]


def links_of(batch: Batch) -> Links:
    """Returns the links among a batch's arrays."""
    return Links(batch["source"], batch["target"], batch["link_weight"])
