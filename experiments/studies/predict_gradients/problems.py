"""The problems: a trunk, a linear head, data."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.data.digits import load_digits
from experiments.data.tfds import load_images
from experiments.models.mlp import MLP
from experiments.models.transformer import VisionTrunk
from xgrad_optax.control_variates import HeadedLoss, HeadedParams

CLASSES = 10

# Evaluating on more would take longer than training.
_CIFAR_EVALUATED = 2000


class Splits(NamedTuple):
    """Three pairs (inputs, labels).

    Attributes:
        train: what the optimizers see.
        validation: what hyperparameters are chosen on.
        test: what is reported and nothing is chosen on.
    """

    train: Any
    validation: Any
    test: Any


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is trained.

    Attributes:
        trunk: Flax network whose output are the features.
        load: reads the data, each part a pair (inputs, labels); takes the data directory.
    """

    trunk: nn.Module
    load: Callable[[str | None], Splits]

    @functools.cached_property
    def loss(self) -> HeadedLoss:
        """Cross entropy of a linear head on the trunk."""

        def features(trunk: Any, inputs: jax.Array) -> jax.Array:
            output: Any = self.trunk.apply({"params": trunk}, inputs)
            return output

        return HeadedLoss(features, optax.softmax_cross_entropy_with_integer_labels)

    def init(self, key: jax.Array, inputs: jax.Array) -> HeadedParams:
        """Draws initial parameters."""
        trunk_key, head_key = jax.random.split(key)
        features, variables = self.trunk.init_with_output(trunk_key, inputs[:1])
        head = nn.Dense(CLASSES).init(head_key, features)
        return HeadedParams(variables["params"], head["params"])

    def measure(self, params: HeadedParams, examples: Any) -> tuple[jax.Array, jax.Array]:
        """Mean loss and accuracy in per cent."""
        inputs, labels = examples
        features = self.loss.features(params.trunk, inputs)
        logits = features @ params.head["kernel"] + params.head["bias"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), 100.0 * jnp.mean(logits.argmax(axis=-1) == labels)


class _HiddenLayers(nn.Module):
    """Fully connected ReLU layers; the last one's activations are the features."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        return nn.relu(MLP(self.widths[:-1], self.widths[-1])(inputs))


class _Convolutions(nn.Module):
    """Two small convolutions on 8 x 8 images, averaged over quarters: 64 features."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        activations = inputs.reshape(len(inputs), 8, 8, 1)
        for channels in (8, 16):
            # A matrix product, because a convolution inside a loop is slow on a CPU.
            activations = nn.relu(nn.Dense(channels)(_neighbourhoods(activations)))
        return nn.avg_pool(activations, (4, 4), (4, 4)).reshape(len(inputs), 64)


def _neighbourhoods(images: jax.Array) -> jax.Array:
    """The 3 x 3 pixels around each pixel, zeros outside, as channels."""
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1)


def _load_digits(data_dir: str | None) -> Splits:
    del data_dir  # they come with scikit-learn
    train, validation, test = (
        (jnp.asarray(part["image"]), jnp.asarray(part["label"])) for part in load_digits()[:3]
    )
    return Splits(train, validation, test)


def _load_cifar10(data_dir: str | None) -> Splits:
    images, labels = load_images("cifar10", "train", data_dir)
    test_images, test_labels = load_images("cifar10", "test", data_dir)
    mean, deviation = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2))

    def prepared(images: np.ndarray, labels: np.ndarray) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray((images - mean) / deviation, jnp.float32), jnp.asarray(labels)

    held_out = slice(-_CIFAR_EVALUATED, None)
    return Splits(
        prepared(images[:-_CIFAR_EVALUATED], labels[:-_CIFAR_EVALUATED]),
        prepared(images[held_out], labels[held_out]),
        prepared(test_images, test_labels),
    )


def load_problem(name: str) -> Problem:
    """Returns the problem of this name."""
    return _PROBLEMS[name]


def with_label_noise(examples: Any, chance: float, key: jax.Array) -> Any:
    """Replaces each label with this chance by a random one."""
    if not chance:
        return examples
    inputs, labels = examples
    which, what = jax.random.split(key)
    random_labels = jax.random.randint(what, labels.shape, 0, CLASSES, labels.dtype)
    return inputs, jnp.where(
        jax.random.bernoulli(which, chance, labels.shape), random_labels, labels
    )


_PROBLEMS = {
    "digits": Problem(_Convolutions(), _load_digits),
    "digits-dense": Problem(_HiddenLayers((256, 256, 32)), _load_digits),
    "cifar10-vit": Problem(VisionTrunk(patch=8, width=64, layers=2, heads=4), _load_cifar10),
}
