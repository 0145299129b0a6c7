"""A variational autoencoder on MNIST, as in XGrad (arXiv 2305.18240).

Pixels are not made binary: the likelihood is that of Bernoulli variables, taken at grey values of
0 to 1. It is then no density of such values, and the numbers compare only with others of its kind.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.data.images import fake_labelled_images, load_labelled_images
from experiments.models.vae import VAE
from experiments.rates import usual_rates
from experiments.task import Batch, Metric, Protocol, Task, Variables, gradient_of

_ELBO = Metric("elbo_loss", "negative ELBO [nats]", higher_is_better=False)
_SHAPE = (28, 28, 1)
_MODEL = VAE()


def vae(name: str, preset: str) -> Task:
    """Returns the task; on a CPU 15,000 images and 6 epochs, in the paper all and 50."""
    small = preset == "cpu"
    return Task(
        name=name,
        preset=preset,
        load=functools.partial(
            load_labelled_images,
            "mnist",
            train=15_000 if small else None,
            validation=2_000 if small else 5_000,
            test=2_000 if small else None,
        ),
        fake=lambda: fake_labelled_images(_SHAPE, classes=10, augmented=False),
        init=_init,
        gradient=gradient_of(_loss),
        measure=_measure,
        metric=_ELBO,
        loss="elbo_loss",
        protocol=Protocol(
            learning_rates=usual_rates(sgdm=6e-3, adam=2e-3 if small else 1e-3),
            batch_size=128,
            epochs=6 if small else 50,
            schedule="cosine" if small else "constant",
            measure_batch_size=500,
        ),
        parameters=652_824,  # as PyTorch's example of a VAE
    )


def _init(key: jax.Array) -> Variables:
    images, noise = jnp.zeros((1, *_SHAPE)), jnp.zeros((1, _MODEL.latent))
    return Variables(_MODEL.init(key, _pixels(images), noise)["params"], {})


def _loss(params: Any, state: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
    reconstruction, divergence = _terms(params, batch, key)
    return (reconstruction + divergence).mean(), state


def _measure(variables: Variables, batch: Batch) -> tuple[Mapping[str, jax.Array], Any]:
    # Always the same noise, so that two measurements differ by the parameters alone.
    reconstruction, divergence = _terms(variables.params, batch, jax.random.key(0))
    weight = batch["weight"]
    sums = {
        "elbo_loss": jnp.sum(weight * (reconstruction + divergence)),
        "reconstruction": jnp.sum(weight * reconstruction),
        "kl": jnp.sum(weight * divergence),
        "weight": jnp.sum(weight),
    }
    return sums, variables.state


def _terms(params: Any, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the two terms of each image's negative ELBO, in nats, each ``[batch]``.

    With pixels x, their logits, and the posterior's mean m and variance v these are the Bernoulli
    cross-entropy of x, and KL(N(m, v), N(0, 1)) = (m^2 + v - ln v - 1) / 2, each summed.
    """
    pixels = _pixels(batch["image"])
    noise = jax.random.normal(key, (len(pixels), _MODEL.latent))
    found: Any = _MODEL.apply({"params": params}, pixels, noise)
    logits, mean, log_variance = found
    divergence = (mean**2 + jnp.exp(log_variance) - log_variance - 1) / 2
    return (
        optax.sigmoid_binary_cross_entropy(logits, pixels).sum(axis=-1),
        divergence.sum(axis=-1),
    )


def _pixels(images: jax.Array) -> jax.Array:
    """Maps ``[batch, height, width, channels]`` of 0 to 255 to ``[batch, pixels]`` of 0 to 1."""
    return images.reshape(len(images), -1).astype(jnp.float32) / 255
