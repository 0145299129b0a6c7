"""DCGAN (Radford et al., arXiv 1511.06434) on MNIST, or in the paper on CIFAR-10."""

import jax

from experiments.evidence.generative import Losses, adversarial_task, dcgan
from experiments.evidence.protocols import protocol_of
from experiments.evidence.task import Task

# The logistic loss; the generator's is the one that does not saturate (arXiv 1406.2661).
_LOSSES = Losses(
    discriminator=lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake),
    generator=lambda fake: jax.nn.softplus(-fake),
)


def make(preset: str) -> Task:
    """Returns the task; on a CPU narrow networks for 28 x 28 pixels, 10,000 images of MNIST."""
    if preset == "cpu":
        return adversarial_task(
            name="dcgan",
            preset=preset,
            game=dcgan(start=7, doublings=2, width=16, colours=1, latent=64, normalized=False),
            losses=_LOSSES,
            protocol=protocol_of(
                sgdm=0.01,
                adam=1e-3,
                batch_size=64,
                epochs=6,
                schedule="constant",
                measure_batch_size=500,
            ),
            parameters=0,
            dataset="mnist",
            train=10_000,
            validation=1_000,
            test=1_000,
        )
    return adversarial_task(
        name="dcgan",
        preset=preset,
        game=dcgan(start=4, doublings=3, width=64, colours=3, latent=100, normalized=True),
        losses=_LOSSES,
        protocol=protocol_of(
            sgdm=0.01,
            adam=2e-4,
            batch_size=128,
            epochs=100,
            schedule="constant",
            measure_batch_size=500,
        ),
        parameters=0,
        dataset="cifar10",
        validation=5_000,
    )
