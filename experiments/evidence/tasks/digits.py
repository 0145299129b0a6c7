"""scikit-learn's digits by a small fully connected network: needs no data set from elsewhere."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.data import stratified_split
from experiments.evidence.classification import ACCURACY, classification_sums
from experiments.evidence.protocols import protocol_of
from experiments.evidence.task import Batch, Data, Examples, Task, Variables, gradient_of
from experiments.models import MLP

_MODEL = MLP(hidden=(64, 64), outputs=10)


def make(preset: str) -> Task:
    """Returns the task, the same at both presets."""
    return Task(
        name="digits",
        preset=preset,
        load=_load,
        fake=_fake,
        init=_init,
        gradient=gradient_of(_loss),
        measure=_measure,
        metric=ACCURACY,
        protocol=protocol_of(
            sgdm=0.1,
            adam=3e-3,
            batch_size=32,
            epochs=10,
            schedule="cosine",
            measure_batch_size=180,
        ),
        parameters=8_970,
    )


def _load(data_dir: str | None) -> Data:
    from sklearn.datasets import load_digits

    del data_dir  # they come with scikit-learn
    bunch: Any = load_digits()
    parts = stratified_split(bunch.target, validation=0.2, test=0.2, seed=0)
    train, validation, test = (_examples(bunch.data[part], bunch.target[part]) for part in parts)
    return Data(train, validation, test)


def _fake() -> Data:
    generator = np.random.default_rng(0)
    train, validation, test = (
        _examples(generator.integers(0, 17, (count, 64)), generator.integers(0, 10, count))
        for count in (40, 20, 20)
    )
    return Data(train, validation, test)


def _examples(pixels: np.ndarray, labels: np.ndarray) -> Examples:
    return {"image": (pixels / 16).astype(np.float32), "label": labels.astype(np.int32)}


def _init(key: jax.Array) -> Variables:
    params: Any = _MODEL.init(key, jnp.zeros((1, 64)))
    return Variables(params, {})


def _loss(params: Any, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
    del key
    logits: Any = _MODEL.apply(params, batch["image"])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return losses.mean(), state


def _measure(variables: Variables, batch: Batch) -> tuple[Mapping[str, jax.Array], Any]:
    logits: Any = _MODEL.apply(variables.params, batch["image"])
    return classification_sums(logits, batch), variables.state
