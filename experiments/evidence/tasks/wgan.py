"""The Wasserstein GAN (Arjovsky et al., arXiv 1701.07875) on what and with what DCGAN has.

In the paper the critic makes five steps for each of the generator's; here both make one at once,
as the field of :func:`adversarial_task` has it.
"""

import dataclasses
import functools
from typing import Any

import optax

from experiments.evidence.generative import Losses, adversarial_task
from experiments.evidence.protocols import protocol_of
from experiments.evidence.task import Protocol, Task

_LOSSES = Losses(discriminator=lambda real, fake: fake - real, generator=lambda fake: -fake)
_RMSPROP_RATES = (1.7e-5, 5e-5, 1.5e-4)  # around the paper's


def make(preset: str) -> Task:
    """Returns the task."""
    small = preset == "cpu"
    return adversarial_task(
        name="wgan",
        preset=preset,
        losses=_LOSSES,
        protocol=_protocol(small),
        project=functools.partial(clipped, limit=0.05 if small else 0.01),
    )


def clipped(params: Any, limit: float) -> Any:
    """Returns ``{"discriminator": ..., "generator": ...}`` with the critic's within ``limit``."""
    critic = optax.tree.clip(params["discriminator"], -limit, limit)
    return {**params, "discriminator": critic}


def _protocol(small: bool) -> Protocol:
    protocol = protocol_of(
        sgdm=0.01,
        adam=1e-3 if small else 2e-4,
        batch_size=32 if small else 64,
        epochs=8 if small else 100,
        schedule="constant",
        measure_batch_size=500,
    )
    if small:
        return protocol
    rates = {**protocol.learning_rates, "rmsprop": _RMSPROP_RATES}
    return dataclasses.replace(protocol, learning_rates=rates)
