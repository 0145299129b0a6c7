"""Tasks that classify digits of MNIST's shape."""

import jax
import jax.numpy as jnp

from experiments.models.lenet import InnerLeNet
from experiments.models.mlp import MLP
from experiments.rates import usual_rates
from experiments.task import Protocol, Task
from experiments.tasks.images import Source, image_task, normalized


def convolutional(name: str, preset: str, *, dataset: str) -> Task:
    """Returns LeNet on one of the data sets of MNIST's shape; on a CPU fewer images."""
    small = preset == "cpu"
    source = Source(
        dataset=dataset,
        shape=(28, 28, 1),
        train=8_000 if small else None,
        validation=2_000 if small else 5_000,
        test=2_000 if small else None,
    )
    return image_task(
        name=name,
        preset=preset,
        model=InnerLeNet(outputs=10),
        protocol=Protocol(
            learning_rates=usual_rates(sgdm=0.01, adam=1e-3),
            batch_size=64 if small else 128,
            epochs=5 if small else 50,
            schedule="cosine" if small else "step",
            measure_batch_size=500,
        ),
        # The count for 28 x 28 pixels; the third layer has 16 * 4 * 4 inputs.
        parameters=44_426,
        load=source.load,
        fake=source.fake,
    )


def connected(name: str, preset: str, *, centred: bool) -> Task:
    """Returns a fully connected network on MNIST: on a CPU a run of eight epochs takes seconds.

    Args:
        name: the task's name.
        preset: its preset.
        centred: whether pixels have a mean of 0, or are what the other networks get, where most
            of them are -1.9: then the loss is steep along their mean.
    """
    scaled = _standardized if centred else normalized
    small = preset == "cpu"
    source = Source(
        dataset="mnist",
        shape=(28, 28, 1),
        train=8_192 if small else None,  # a multiple of large batches: none loses an example
        validation=2_000 if small else 5_000,
        test=2_000 if small else None,
    )
    return image_task(
        name=name,
        preset=preset,
        model=MLP(hidden=(64,), outputs=10),
        protocol=Protocol(
            learning_rates=usual_rates(sgdm=0.01, adam=1e-3),
            batch_size=64,
            epochs=8 if small else 50,
            schedule="cosine",
            measure_batch_size=500,
        ),
        parameters=50_890,
        load=source.load,
        fake=source.fake,
        prepared=lambda images: scaled(images).reshape(len(images), -1),
    )


def _standardized(images: jax.Array) -> jax.Array:
    """Maps MNIST's pixels of 0 to 255 to a mean of 0 and a deviation of 1."""
    return (images.astype(jnp.float32) / 255 - 0.1307) / 0.3081
