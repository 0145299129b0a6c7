"""Tasks that classify CIFAR's images: what they share but for the network."""

from typing import NamedTuple

from flax import linen as nn

from experiments.evidence.classification import image_task
from experiments.evidence.protocols import protocol_of
from experiments.evidence.task import Task


class Budget(NamedTuple):
    """What a CPU has time for.

    Attributes:
        images: number of training images.
        epochs: passes over them.
    """

    images: int
    epochs: int


def cifar_task(
    *,
    name: str,
    preset: str,
    model: nn.Module,
    parameters: int,
    budget: Budget,
    classes: int = 10,
    schedule: str | None = None,
    sgdm: float = 0.03,
    adam: float = 1e-3,
) -> Task:
    """Returns the task of classifying CIFAR-10 or CIFAR-100.

    In the paper preset the images are cropped and flipped, and there are 200 epochs of batches of
    128, as in XGrad (arXiv 2305.18240), section 4.1.

    Args:
        name: the task's name.
        preset: its preset.
        model: as for :func:`image_task`.
        parameters: number of parameters that the model should have.
        budget: of the CPU preset.
        classes: 10 or 100.
        schedule: the shape of the learning rate; None for ``"step"``, or ``"cosine"`` on a CPU.
        sgdm: the usual learning rate of SGD with momentum.
        adam: the usual learning rate of Adam.
    """
    small = preset == "cpu"
    return image_task(
        name=name,
        preset=preset,
        model=model,
        protocol=protocol_of(
            sgdm=sgdm,
            adam=adam,
            batch_size=64 if small else 128,
            epochs=budget.epochs if small else 200,
            schedule=schedule or ("cosine" if small else "step"),
            measure_batch_size=500,
        ),
        parameters=parameters,
        dataset=f"cifar{classes}",
        classes=classes,
        train=budget.images if small else None,
        validation=1_000 if small else 5_000,
        test=2_000 if small else None,
        augmented=not small,
    )
