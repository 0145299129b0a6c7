"""Tasks that classify images: what they share but for the network and the data."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from experiments.data.digits import fake_digits, load_digits
from experiments.data.images import fake_labelled_images, load_labelled_images
from experiments.models.lenet import LeNet
from experiments.models.mlp import MLP
from experiments.rates import usual_rates
from experiments.recipe import Recipe
from experiments.task import Batch, Data, Metric, Protocol, Task, Variables, gradient_of

ACCURACY = Metric("accuracy", "accuracy [%]", higher_is_better=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Labelled images of TFDS.

    Attributes:
        dataset: name in TFDS.
        shape: of one image.
        classes: number of classes.
        validation: as for :func:`load_labelled_images`, and so are the rest.
        train: number of training examples.
        test: number of test examples.
        augmented: whether to crop and flip.
    """

    dataset: str = "cifar10"
    shape: tuple[int, int, int] = (32, 32, 3)
    classes: int = 10
    validation: int = 5_000
    train: int | None = None
    test: int | None = None
    augmented: bool = False

    def load(self, data_dir: str | None) -> Data:
        """Reads the images."""
        return load_labelled_images(
            self.dataset,
            data_dir,
            validation=self.validation,
            train=self.train,
            test=self.test,
            augmented=self.augmented,
        )

    def fake(self) -> Data:
        """Draws a few."""
        return fake_labelled_images(self.shape, self.classes, self.augmented)


def normalized(images: jax.Array) -> jax.Array:
    """Maps pixels of 0 to 255 to about -2 to 2: CIFAR's mean is near 0.47, its deviation 0.25."""
    return (images.astype(jnp.float32) / 255 - 0.47) * 4


def image_task(
    *,
    name: str,
    preset: str,
    model: nn.Module,
    protocol: Protocol,
    parameters: int,
    load: Callable[[str | None], Data],
    fake: Callable[[], Data],
    prepared: Callable[[jax.Array], jax.Array] = normalized,
) -> Task:
    """Returns the task of classifying images.

    Args:
        name: the task's name.
        preset: its preset.
        model: maps ``(images, train)``, prepared images, to logits, ``[batch, classes]``; dropout
            draws from the stream ``"dropout"``, and batch statistics are in the collection
            ``"batch_stats"``.
        protocol: how it is trained.
        parameters: number of parameters that the model should have.
        load: reads ``image``, ``[examples, ...]``, and ``label``, ``[examples]``.
        fake: draws such data.
        prepared: turns the images into what the model takes.
    """

    def init(key: jax.Array) -> Variables:
        example = jnp.zeros((1, *fake().train["image"].shape[1:]))
        variables = dict(model.init(key, prepared(example), train=False))
        return Variables(variables.pop("params"), variables)

    def loss(params: Any, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        logits, state = model.apply(
            {"params": params, **state},
            prepared(batch["image"]),
            train=True,
            rngs={"dropout": key},
            mutable=list(state),
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return losses.mean(), state

    def measure(variables: Variables, batch: Batch) -> tuple[Mapping[str, jax.Array], Any]:
        logits: Any = model.apply(
            {"params": variables.params, **variables.state}, prepared(batch["image"]), train=False
        )
        return classification_sums(logits, batch), variables.state

    return Task(
        name=name,
        preset=preset,
        load=load,
        fake=fake,
        init=init,
        gradient=gradient_of(loss),
        measure=measure,
        metric=ACCURACY,
        protocol=protocol,
        parameters=parameters,
    )


def cifar(
    name: str,
    preset: str,
    *,
    network: str,
    cpu: Mapping[str, Any],
    paper: Mapping[str, Any],
    parameters: tuple[int, int],
    images: int,
    epochs: int,
    classes: int = 10,
    schedule: str | None = None,
    sgdm: float = 0.03,
    adam: tuple[float, float] = (1e-3, 1e-3),
) -> Task:
    """Returns the task of classifying CIFAR-10 or CIFAR-100.

    In the paper preset the images are cropped and flipped, and there are 120 epochs of batches of
    128, the rate a tenth for the last 30, and a weight decay of 5e-4 where the optimizer decouples
    one: PipeOptim (arXiv 2312.00839), by the author of XGrad, which says none of this.

    Args:
        name: the task's name.
        preset: its preset.
        network: ``"module:constructor"`` below ``experiments.models``; takes ``outputs``.
        cpu: what else it takes in the CPU preset.
        paper: the same in the paper preset.
        parameters: number of parameters that it should have, in the CPU and in the paper preset.
        images: number of training images that a CPU has time for.
        epochs: passes over them.
        classes: 10 or 100.
        schedule: the shape of the learning rate; None for ``"step"``, or ``"cosine"`` on a CPU.
        sgdm: the usual learning rate of SGD with momentum.
        adam: that of Adam in the CPU and in the paper preset.
    """
    small = preset == "cpu"
    source = Source(
        dataset=f"cifar{classes}",
        classes=classes,
        train=images if small else None,
        validation=1_000 if small else 5_000,
        test=2_000 if small else None,
        augmented=not small,
    )
    return image_task(
        name=name,
        preset=preset,
        model=Recipe(f"experiments.models.{network}").build(
            outputs=classes, **(cpu if small else paper)
        ),
        protocol=Protocol(
            learning_rates=usual_rates(sgdm=sgdm, adam=adam[not small]),
            batch_size=64 if small else 128,
            epochs=epochs if small else 120,
            schedule=schedule or ("cosine" if small else "step"),
            measure_batch_size=500,
        ),
        parameters=parameters[not small],
        load=source.load,
        fake=source.fake,
    )


def cifar10_lenet(name: str, preset: str) -> Task:
    """Returns LeNet on all of CIFAR-10, at a constant learning rate, the same at both presets."""
    source = Source()
    return image_task(
        name=name,
        preset=preset,
        model=LeNet(outputs=10),
        protocol=Protocol(
            learning_rates=usual_rates(sgdm=0.01, adam=1e-3),
            batch_size=128,
            epochs=10,
            schedule="constant",
            measure_batch_size=500,
        ),
        parameters=62_006,
        load=source.load,
        fake=source.fake,
        prepared=lambda images: images.astype(jnp.float32) / 127.5 - 1.0,
    )


def digits(name: str, preset: str) -> Task:
    """Returns scikit-learn's digits and a fully connected network, the same at both presets."""
    return image_task(
        name=name,
        preset=preset,
        model=MLP(hidden=(64, 64), outputs=10),
        protocol=Protocol(
            learning_rates=usual_rates(sgdm=0.1, adam=3e-3),
            batch_size=32,
            epochs=10,
            schedule="cosine",
            measure_batch_size=180,
        ),
        parameters=8_970,
        load=lambda data_dir: load_digits(),
        fake=fake_digits,
        prepared=lambda images: images,
    )


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
