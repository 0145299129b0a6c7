"""Tasks that classify images: what they share but for the network and the data."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from experiments.evidence.data.images import fake_labelled_images, load_labelled_images
from experiments.evidence.task import (
    Batch,
    Data,
    Metric,
    Protocol,
    Task,
    Variables,
    gradient_of,
)

ACCURACY = Metric("accuracy", "accuracy [%]", higher_is_better=True)


def image_task(
    *,
    name: str,
    preset: str,
    model: nn.Module,
    protocol: Protocol,
    parameters: int,
    dataset: str = "cifar10",
    shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    validation: int = 5_000,
    train: int | None = None,
    test: int | None = None,
    augmented: bool = False,
) -> Task:
    """Returns the task of classifying images.

    Args:
        name: the task's name.
        preset: its preset.
        model: maps ``(images, train)``, float ``[batch, height, width, channels]`` of about
            -2 to 2, to logits, ``[batch, classes]``; dropout draws from the stream ``"dropout"``,
            and batch statistics are in the collection ``"batch_stats"``.
        protocol: how it is trained.
        parameters: number of parameters that the model should have.
        dataset: name in TFDS.
        shape: of one image.
        classes: number of classes.
        validation: as for :func:`load_labelled_images`, and so are the rest.
        train: number of training examples.
        test: number of test examples.
        augmented: whether to crop and flip.
    """

    def load(data_dir: str | None) -> Data:
        return load_labelled_images(
            dataset, data_dir, validation=validation, train=train, test=test, augmented=augmented
        )

    def init(key: jax.Array) -> Variables:
        variables = dict(model.init(key, jnp.zeros((1, *shape)), train=False))
        return Variables(variables.pop("params"), variables)

    def loss(params: Any, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        logits, state = model.apply(
            {"params": params, **state},
            normalized(batch["image"]),
            train=True,
            rngs={"dropout": key},
            mutable=list(state),
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return losses.mean(), state

    def measure(variables: Variables, batch: Batch) -> tuple[Mapping[str, jax.Array], Any]:
        logits: Any = model.apply(
            {"params": variables.params, **variables.state}, normalized(batch["image"]), train=False
        )
        return classification_sums(logits, batch), variables.state

    return Task(
        name=name,
        preset=preset,
        load=load,
        fake=lambda: fake_labelled_images(shape, classes, augmented),
        init=init,
        gradient=gradient_of(loss),
        measure=measure,
        metric=ACCURACY,
        protocol=protocol,
        parameters=parameters,
    )


def normalized(images: jax.Array) -> jax.Array:
    """Maps pixels of 0 to 255 to about -2 to 2: CIFAR's mean is near 0.47, its deviation 0.25."""
    return (images.astype(jnp.float32) / 255 - 0.47) * 4


def classification_sums(logits: jax.Array, batch: Batch) -> Mapping[str, jax.Array]:
    """Returns the sums of loss and accuracy over the rows of weight 1."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    correct = logits.argmax(axis=-1) == batch["label"]
    weight = batch["weight"]
    return {
        "loss": jnp.sum(weight * losses),
        "accuracy": 100 * jnp.sum(weight * correct),
        "weight": jnp.sum(weight),
    }
