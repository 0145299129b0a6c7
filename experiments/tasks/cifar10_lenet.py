"""Classification of CIFAR-10's photographs by LeNet; the images come from TFDS, from disk."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.data import Splits, number_of_examples
from experiments.data_sources import load_images
from experiments.models import LeNet
from experiments.tasks import Task

_MODEL = LeNet(outputs=10)
_VALIDATION = 5_000
_CHUNK = 500  # examples of a large set that pass through the network at a time


class Photographs(NamedTuple):
    """Some of the photographs.

    Attributes:
        images: pixels from 0 to 255, ``[examples, 32, 32, 3]``, uint8: a quarter of float32.
        labels: the class shown, ``[examples]``.
    """

    images: jax.Array
    labels: jax.Array


def _load() -> Splits:
    train, test = (load_images("cifar10", split) for split in ("train", "test"))
    # The records are in random order, so the last ones are a fair sample.
    parts = [(a[:-_VALIDATION], a[-_VALIDATION:], b) for a, b in zip(train, test, strict=True)]
    return Splits(*(Photographs(*map(_on_device, pair)) for pair in zip(*parts, strict=True)))


def _on_device(array: np.ndarray) -> jax.Array:
    return jnp.asarray(array)


def _init(key: jax.Array) -> Any:
    return _MODEL.init(key, jnp.zeros((1, 32, 32, 3)))


def _logits(params: Any, images: jax.Array) -> jax.Array:
    logits: Any = _MODEL.apply(params, images.astype(jnp.float32) / 127.5 - 1.0)
    return logits


def _mean(measure: Any, params: Any, examples: Photographs) -> jax.Array:
    """The mean of a measure of logits and labels; large sets do not fit into memory at once."""

    def of_chunk(chunk: Photographs) -> jax.Array:
        return measure(_logits(params, chunk.images), chunk.labels)

    number = number_of_examples(examples)
    if number <= _CHUNK:
        return of_chunk(examples).mean()
    chunks = jax.tree.map(lambda a: a.reshape(number // _CHUNK, _CHUNK, *a.shape[1:]), examples)
    return jax.lax.map(of_chunk, chunks).mean()


def _loss(params: Any, examples: Photographs, key: jax.Array) -> jax.Array:
    del key
    return _mean(optax.softmax_cross_entropy_with_integer_labels, params, examples)


def _accuracy(params: Any, examples: Photographs, key: jax.Array) -> jax.Array:
    del key
    return 100.0 * _mean(lambda logits, labels: logits.argmax(-1) == labels, params, examples)


TASK = Task(
    name="cifar10-lenet",
    load=_load,
    init=_init,
    loss=_loss,
    metric=_accuracy,
    metric_name="accuracy [%]",
    metric_higher_is_better=True,
    epochs=10,
    batch_size=128,
    early_epoch=3,
    target_loss=1.2,
    learning_rates={
        "sgdm": 1e-2,
        "rmsprop": 1e-3,
        "adam": 1e-3,
        "adamw": 1e-3,
        "adabelief": 1e-3,
        "adam3": 3e-4,
    },
    learning_rate_origin="customary values, not tuned for this task",
)
