"""scikit-learn's digits by a small fully connected network: needs no data set from elsewhere."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments.evidence.classification import ACCURACY, classification_sums
from experiments.evidence.protocols import protocol_of
from experiments.evidence.task import Batch, Data, Examples, Task, Variables, gradient_of
from experiments.tasks.digits import MODEL, Digits
from experiments.tasks.digits import TASK as DIGITS


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
    del data_dir  # they come with scikit-learn
    train, validation, test = (
        _examples(np.asarray(part.images), np.asarray(part.labels)) for part in DIGITS.load()
    )
    return Data(train, validation, test)


def _fake() -> Data:
    generator = np.random.default_rng(0)
    train, validation, test = (
        _examples(generator.integers(0, 17, (count, 64)) / 16, generator.integers(0, 10, count))
        for count in (40, 20, 20)
    )
    return Data(train, validation, test)


def _examples(images: np.ndarray, labels: np.ndarray) -> Examples:
    return {"image": images.astype(np.float32), "label": labels.astype(np.int32)}


def _init(key: jax.Array) -> Variables:
    return Variables(DIGITS.init(key), {})


def _loss(params: Any, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
    return DIGITS.loss(params, Digits(batch["image"], batch["label"]), key), state


def _measure(variables: Variables, batch: Batch) -> tuple[Mapping[str, jax.Array], Any]:
    logits: Any = MODEL.apply(variables.params, batch["image"])
    return classification_sums(logits, batch), variables.state
