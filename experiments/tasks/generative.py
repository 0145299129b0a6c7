"""Tasks that generate images by two networks: DCGAN and the Wasserstein GAN."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import optax

from experiments.data.images import fake_labelled_images, load_labelled_images
from experiments.models.dcgan import Discriminator, Generator
from experiments.rates import usual_rates
from experiments.task import Data, Metric, Protocol, Task
from experiments.tasks.adversarial import Contest, Game, Losses

SLICED_WASSERSTEIN = Metric(
    "sliced_wasserstein", "sliced Wasserstein distance", higher_is_better=False
)

# The logistic loss; the generator's is the one that does not saturate (arXiv 1406.2661).
_LOGISTIC = Losses(
    discriminator=lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake),
    generator=lambda fake: jax.nn.softplus(-fake),
)
_WASSERSTEIN = Losses(discriminator=lambda real, fake: fake - real, generator=lambda fake: -fake)
_RMSPROP_RATE = 5e-5  # the paper's

# Narrow networks, and no batch normalization in the discriminator.
SMALL = Game(
    Discriminator(start=7, doublings=2, width=8, normalized=False),
    Generator(start=7, doublings=2, width=8, colours=1),
    latent=32,
    dataset="mnist",
    shape=(28, 28, 1),
    parameters=2_985 + 27_312,
)
# The networks of the authors of WGAN for this size. For 64 x 64 pixels the same layers have the
# 3,576,704 and 2,765,568 parameters that are published for PyTorch's example of DCGAN.
PAPER = Game(
    Discriminator(start=4, doublings=3, width=64, normalized=True),
    Generator(start=4, doublings=3, width=64, colours=3),
    latent=100,
    dataset="cifar10",
    shape=(32, 32, 3),
    parameters=663_296 + 1_068_928,
)


def adversarial_task(
    *,
    name: str,
    preset: str,
    losses: Losses,
    protocol: Protocol,
    project: Callable[[Any], Any] | None = None,
) -> Task:
    """Returns the task of generating images that look like a data set's.

    What stands for a gradient is a field: the gradient of the discriminator's loss by its own
    parameters, and of the generator's loss by the generator's. Both move at once, in one step a
    batch; there are no further steps of the discriminator alone. The loss of a step is the
    discriminator's.

    Args:
        name: the task's name.
        preset: its preset.
        losses: what the networks minimize.
        protocol: how they are trained.
        project: applied to ``{"discriminator": ..., "generator": ...}`` after each update and to
            what a run starts from.
    """
    small = preset == "cpu"
    contest = Contest(SMALL if small else PAPER, losses, project)
    game = contest.game

    def load(data_dir: str | None) -> Data:
        return load_labelled_images(
            game.dataset,
            data_dir,
            train=5_000 if small else None,
            validation=1_000 if small else 5_000,
            test=1_000 if small else None,
        )

    return Task(
        name=name,
        preset=preset,
        load=load,
        fake=lambda: fake_labelled_images(game.shape, classes=10, augmented=False),
        init=contest.init,
        gradient=contest.gradient,
        measure=contest.measure,
        metric=SLICED_WASSERSTEIN,
        loss="discriminator_loss",
        protocol=protocol,
        parameters=game.parameters,
        score=contest.score,
        project=project,
    )


def dcgan(name: str, preset: str) -> Task:
    """Returns DCGAN (arXiv 1511.06434), on MNIST or in the paper preset on CIFAR-10."""
    small = preset == "cpu"
    return adversarial_task(
        name=name,
        preset=preset,
        losses=_LOGISTIC,
        protocol=Protocol(
            learning_rates=usual_rates(sgdm=0.01, adam=5e-4 if small else 2e-4),
            batch_size=32 if small else 128,
            epochs=8 if small else 100,
            schedule="constant",
            measure_batch_size=500,
        ),
    )


def wgan(name: str, preset: str) -> Task:
    """Returns the Wasserstein GAN (arXiv 1701.07875) on what and with what DCGAN has.

    In the paper the critic makes five steps for each of the generator's; here both make one at
    once, as the field of :func:`adversarial_task` has it.
    """
    small = preset == "cpu"
    return adversarial_task(
        name=name,
        preset=preset,
        losses=_WASSERSTEIN,
        protocol=_wgan_protocol(small),
        project=functools.partial(clipped, limit=0.05 if small else 0.01),
    )


def clipped(params: Any, limit: float) -> Any:
    """Returns ``{"discriminator": ..., "generator": ...}`` with the critic's within ``limit``."""
    critic = optax.tree.clip(params["discriminator"], -limit, limit)
    return {**params, "discriminator": critic}


def _wgan_protocol(small: bool) -> Protocol:
    protocol = Protocol(
        learning_rates=usual_rates(sgdm=0.01, adam=1e-3 if small else 2e-4),
        batch_size=32 if small else 64,
        epochs=8 if small else 100,
        schedule="constant",
        measure_batch_size=500,
    )
    if small:
        return protocol
    rates = {**protocol.learning_rates, "rmsprop": _RMSPROP_RATE}
    return dataclasses.replace(protocol, learning_rates=rates)
