"""Classification of scikit-learn's handwritten digits by a small fully connected network."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.data import Splits, stratified_split
from experiments.models import MLP
from experiments.tasks import Task

MODEL = MLP(hidden=(64, 64), outputs=10)
_SPLIT_SEED = 0


class Digits(NamedTuple):
    """Some of the digits.

    Attributes:
        images: pixels in ``[0, 1]``, ``[examples, 64]``.
        labels: the digit shown, ``[examples]``.
    """

    images: jax.Array
    labels: jax.Array


def _load() -> Splits:
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()  # read from the installed package: no download
    images = jnp.asarray(bunch.data / 16.0, jnp.float32)
    labels = jnp.asarray(bunch.target, jnp.int32)
    parts = stratified_split(bunch.target, validation=0.2, test=0.2, seed=_SPLIT_SEED)
    return Splits(*(Digits(images[part], labels[part]) for part in parts))


def _init(key: jax.Array) -> Any:
    return MODEL.init(key, jnp.zeros((1, 64)))


def _logits(params: Any, images: jax.Array) -> jax.Array:
    logits: Any = MODEL.apply(params, images)
    return logits


def _loss(params: Any, examples: Digits, key: jax.Array) -> jax.Array:
    del key
    logits = _logits(params, examples.images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, examples.labels).mean()


def _accuracy(params: Any, examples: Digits, key: jax.Array) -> jax.Array:
    del key
    predicted = _logits(params, examples.images).argmax(axis=-1)
    return 100.0 * jnp.mean(predicted == examples.labels)


TASK = Task(
    name="digits",
    load=_load,
    init=_init,
    loss=_loss,
    metric=_accuracy,
    metric_name="accuracy [%]",
    metric_higher_is_better=True,
    epochs=30,
    batch_size=32,
    early_epoch=5,
    target_loss=0.1,
    # The rate with the lowest mean validation loss after the last epoch, plain optimizers only, 8
    # seeds that the comparison does not use, from 0.003, 0.01, 0.03, 0.1, 0.3 for sgdm and 3e-4,
    # 1e-3, 3e-3, 1e-2, 3e-2 for the others. One grid point is
    #   compare --horizons 0 --no-baselines --first-seed 1000 --learning-rates adam=1e-3 ...
    learning_rates={
        "sgdm": 0.1,
        "rmsprop": 1e-3,
        "adam": 1e-3,
        "adamw": 1e-3,
        "adabelief": 1e-3,
        "adam3": 3e-4,
    },
    learning_rate_origin="task defaults, tuned for the plain optimizers on validation loss",
)
