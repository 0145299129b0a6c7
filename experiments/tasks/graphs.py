"""Tasks on graphs: to classify papers by what they say and cite, and small graphs as a whole."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.data.citations import UPDATES_PER_PASS, fake_citations, load_citations
from experiments.data.small_graphs import (
    FOLDS,
    TEST,
    TRAIN,
    VALIDATION,
    fake_small_graphs,
    load_small_graphs,
)
from experiments.models.graphs import (
    GraphConvolutionNetwork,
    GraphIsomorphismNetwork,
    Links,
    Words,
)
from experiments.rates import usual_rates
from experiments.task import Batch, Data, Protocol, Task, Variables, gradient_of
from experiments.tasks.images import ACCURACY, classification_sums

_UPDATES = 200
_HIDDEN = 16
_WIDTH = 32
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
            learning_rates=usual_rates(sgdm=1.0, adam=0.01),
            batch_size=1,
            epochs=_UPDATES // UPDATES_PER_PASS,
            schedule="constant",
            weight_decay=0.0,
        ),
        parameters=_HIDDEN * (vocabulary + classes),
    )


def small_graphs(
    name: str, preset: str, *, graphs: str, tags: int, epochs: int, largest: int | None = None
) -> Task:
    """Returns a graph isomorphism network on small graphs, in ten folds.

    In the paper preset as in arXiv 1810.00826, section 7: four sums over neighbours, batches of 32,
    350 passes, the rate halved every 50. All graphs are in every part of the data; the state says
    which fold a run is tested on, and with that which of them count.

    Args:
        name: the task's name.
        preset: its preset.
        graphs: ``"mutag"`` or ``"proteins"``.
        tags: number of different tags of their nodes.
        epochs: passes in the CPU preset.
        largest: in the CPU preset graphs of more nodes are left out; None for none.
    """
    small = preset == "cpu"
    layers = 2 if small else 4
    model = GraphIsomorphismNetwork(tags, _WIDTH, layers, outputs=2)

    def init(key: jax.Array) -> Variables:
        fake = fake_small_graphs(tags).train
        graph = {name: jnp.asarray(array[:1]) for name, array in fake.items()}
        of_model, of_fold = jax.random.split(key)
        drawn: Any = model.init(of_model, *_tagged(graph), jnp.ones(1, bool), train=False)
        fold = jax.random.randint(of_fold, (), 0, FOLDS)
        return Variables(drawn["params"], {"fold": fold, "batch_stats": drawn["batch_stats"]})

    def applied(variables: Variables, batch: Batch, part: jax.Array, **options: Any) -> Any:
        collections = {"params": variables.params, "batch_stats": variables.state["batch_stats"]}
        return model.apply(collections, *_tagged(batch), part, **options)

    def loss(params: Any, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        part = counted(batch, state["fold"])
        options = {"train": True, "rngs": {"dropout": key}, "mutable": ["batch_stats"]}
        logits, changed = applied(Variables(params, state), batch, part, **options)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return jnp.mean(losses, where=part), {**state, **changed}

    def measure(variables: Variables, batch: Batch) -> tuple[Mapping[str, jax.Array], Any]:
        part = counted(batch, variables.state["fold"])
        logits = applied(variables, batch, part, train=False)
        weight = batch["weight"] * part
        return classification_sums(logits, {**batch, "weight": weight}), variables.state

    return Task(
        name=name,
        preset=preset,
        load=lambda data_dir: load_small_graphs(graphs, data_dir, largest if small else None),
        fake=lambda: fake_small_graphs(tags),
        init=init,
        gradient=gradient_of(loss),
        measure=measure,
        metric=ACCURACY,
        protocol=Protocol(
            learning_rates=usual_rates(sgdm=0.01, adam=0.01),
            batch_size=32,
            epochs=epochs if small else 350,
            schedule="cosine" if small else "halving",
            measure_batch_size=128,
        ),
        parameters=_isomorphism_parameters(tags, layers),
    )


def counted(batch: Batch, fold: jax.Array) -> jax.Array:
    """Returns which graphs count in a run that is tested on a fold, bool ``[graphs]``.

    The fold behind that is the validation part; the other eight are trained on.
    """
    behind = (batch["fold"] - fold) % FOLDS
    part = jnp.where(behind == 0, TEST, jnp.where(behind == 1, VALIDATION, TRAIN))
    return part == batch["part"]


def _isomorphism_parameters(tags: int, layers: int) -> int:
    """Counts per layer two linear ones, two normalizations, two logits; and those of the tags."""
    inputs = [tags] + [_WIDTH] * (layers - 1)
    each = (_WIDTH * (size + _WIDTH + 2 + 2) + 2 * (_WIDTH + 1) for size in inputs)
    return sum(each) + 2 * (tags + 1)


def _tagged(batch: Batch) -> tuple[jax.Array, Links]:
    return batch["tag"], links_of(batch)


def _papers(batch: Batch) -> tuple[Words, Links, int]:
    """Returns what the papers say, what they cite, and how many they are."""
    words = Words(batch["word"], batch["word_node"], batch["word_weight"])
    return words, links_of(batch), batch["label"].shape[1]


def links_of(batch: Batch) -> Links:
    """Returns the links among a batch's arrays."""
    return Links(batch["source"], batch["target"], batch["link_weight"])
