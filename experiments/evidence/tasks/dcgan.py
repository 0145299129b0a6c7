"""DCGAN (Radford et al., arXiv 1511.06434) on MNIST, or in the paper preset on CIFAR-10."""

import jax

from experiments.evidence.generative import Losses, adversarial_task
from experiments.evidence.protocols import protocol_of
from experiments.evidence.task import Task

# The logistic loss; the generator's is the one that does not saturate (arXiv 1406.2661).
_LOSSES = Losses(
    discriminator=lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake),
    generator=lambda fake: jax.nn.softplus(-fake),
)


def make(preset: str) -> Task:
    """Returns the task."""
    small = preset == "cpu"
    return adversarial_task(
        name="dcgan",
        preset=preset,
        losses=_LOSSES,
        protocol=protocol_of(
            sgdm=0.01,
            adam=5e-4 if small else 2e-4,
            batch_size=32 if small else 128,
            epochs=8 if small else 100,
            schedule="constant",
            measure_batch_size=500,
        ),
    )
