"""Two networks that play against each other, as the functions of a task."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.task import Batch, Examples, Gradient, Variables

_GENERATED_AT_ONCE = 500


class Losses(NamedTuple):
    """What the two networks minimize, each its own.

    Attributes:
        discriminator: of the discriminator's numbers for real and for generated images,
            ``([batch], [batch]) -> [batch]``.
        generator: of its numbers for generated ones, ``[batch] -> [batch]``.
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array], jax.Array]


class Game(NamedTuple):
    """The two networks, and what they play for.

    Attributes:
        discriminator: maps ``(images, train)``, images of -1 to 1, to ``[batch]``.
        generator: maps ``(noise, train)``, noise of ``[batch, latent]``, to images.
        latent: number of random numbers that an image is made of.
        dataset: of the real images, a name in TFDS.
        shape: ``(height, width, channels)`` of its images.
        parameters: number of parameters of both networks.
    """

    discriminator: nn.Module
    generator: nn.Module
    latent: int
    dataset: str
    shape: tuple[int, int, int]
    parameters: int


class Contest:
    """Two networks and their losses, as the functions of a task.

    Parameters, gradients and states are ``{"discriminator": ..., "generator": ...}``.
    """

    def __init__(self, game: Game, losses: Losses, project: Callable[[Any], Any] | None) -> None:
        self.game, self._losses, self._project = game, losses, project
        self._generate = jax.jit(self._generated, static_argnums=2)

    def init(self, key: jax.Array) -> Variables:
        """Draws both networks."""
        game, keys = self.game, jax.random.split(key)
        drawn = {
            "discriminator": game.discriminator.init(
                keys[0], jnp.zeros((1, *game.shape)), train=False
            ),
            "generator": game.generator.init(keys[1], jnp.zeros((1, game.latent)), train=False),
        }
        params = {part: variables["params"] for part, variables in drawn.items()}
        state = {
            part: {name: value for name, value in variables.items() if name != "params"}
            for part, variables in drawn.items()
        }
        return Variables(self._project(params) if self._project else params, state)

    def gradient(self, params: Any, state: Any, batch: Batch, key: jax.Array) -> Gradient:
        """Returns each network's gradient of its own loss."""
        real = signed(batch["image"])
        (_, (fake, generator_state)), generator_gradient = jax.value_and_grad(
            self._loss_of_generator, has_aux=True
        )(params["generator"], params["discriminator"], state, self._noise(key, len(real)))
        (loss, discriminator_state), discriminator_gradient = jax.value_and_grad(
            self._loss_of_discriminator, has_aux=True
        )(params["discriminator"], state["discriminator"], real, fake)
        return Gradient(
            loss,
            {"discriminator": discriminator_gradient, "generator": generator_gradient},
            {"discriminator": discriminator_state, "generator": generator_state},
        )

    def measure(self, variables: Variables, batch: Batch) -> tuple[Mapping[str, jax.Array], Any]:
        """Returns sums of both losses; always of the same noise, so that they are comparable."""
        weight = batch["weight"]
        fake = self._generated(variables, jax.random.key(0), len(weight))
        of_real, of_fake = (
            _measuring(self.game.discriminator, variables, "discriminator", images)
            for images in (signed(batch["image"]), fake)
        )
        sums = {
            "discriminator_loss": jnp.sum(weight * self._losses.discriminator(of_real, of_fake)),
            "generator_loss": jnp.sum(weight * self._losses.generator(of_fake)),
            "weight": jnp.sum(weight),
        }
        return sums, variables.state

    def score(self, variables: Variables, examples: Examples) -> Mapping[str, float]:
        """Compares as many generated images with the real ones as there are of these."""
        count = len(examples["image"])
        keys = jax.random.split(jax.random.key(1), -(-count // _GENERATED_AT_ONCE))
        parts = [self._generate(variables, key, _GENERATED_AT_ONCE) for key in keys]
        real = np.asarray(signed(examples["image"]))
        return {"sliced_wasserstein": sliced_wasserstein(real, np.concatenate(parts)[:count])}

    def _loss_of_generator(
        self, own: Any, discriminator: Any, state: Any, noise: jax.Array
    ) -> tuple[jax.Array, Any]:
        fake, after = _in_training(self.game.generator, own, state["generator"], noise)
        scores, _ = _in_training(
            self.game.discriminator, discriminator, state["discriminator"], fake
        )
        return self._losses.generator(scores).mean(), (fake, after)

    def _loss_of_discriminator(
        self, own: Any, state: Any, real: jax.Array, fake: jax.Array
    ) -> tuple[jax.Array, Any]:
        of_real, after = _in_training(self.game.discriminator, own, state, real)
        of_fake, after = _in_training(self.game.discriminator, own, after, fake)
        return self._losses.discriminator(of_real, of_fake).mean(), after

    def _generated(self, variables: Variables, key: jax.Array, rows: int) -> jax.Array:
        """Returns images of -1 to 1, ``[rows, height, width, channels]``."""
        return _measuring(self.game.generator, variables, "generator", self._noise(key, rows))

    def _noise(self, key: jax.Array, rows: int) -> jax.Array:
        return jax.random.normal(key, (rows, self.game.latent))


def signed(images: Any) -> Any:
    """Maps pixels of 0 to 255 to -1 to 1."""
    return images.astype(np.float32) / 127.5 - 1


def sliced_wasserstein(first: np.ndarray, second: np.ndarray, directions: int = 256) -> float:
    """Returns the sliced Wasserstein distance of two samples (Bonneel et al., 2015).

    In one dimension the optimal transport between samples of n points each pairs their order
    statistics. The distance is the root of the mean, over ``directions`` unit vectors u, of the
    squared distances in one dimension::

        SW^2 = mean_u 1/n sum_i (x_(i)^u - y_(i)^u)^2

    where x_(i)^u is the i-th smallest inner product of a point x with u. The vectors are drawn
    uniformly from the sphere, and always the same.

    Args:
        first: a sample, ``[examples, ...]``.
        second: one of the same shape.
        directions: number of unit vectors.
    """
    points = [sample.reshape(len(sample), -1) for sample in (first, second)]
    drawn = np.random.default_rng(0).standard_normal((points[0].shape[1], directions), np.float32)
    units = drawn / np.linalg.norm(drawn, axis=0)
    x, y = (np.sort(sample @ units, axis=0) for sample in points)
    return float(np.sqrt(np.mean((x - y) ** 2)))


def _in_training(model: nn.Module, params: Any, state: Any, inputs: jax.Array) -> Any:
    """Returns ``(outputs, state)`` with the batch's own statistics."""
    return model.apply({"params": params, **state}, inputs, train=True, mutable=list(state))


def _measuring(model: nn.Module, variables: Variables, part: str, inputs: jax.Array) -> Any:
    """Returns the outputs with the running statistics."""
    collections = {"params": variables.params[part], **variables.state[part]}
    return model.apply(collections, inputs, train=False)
