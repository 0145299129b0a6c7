"""Inception-V3 on CIFAR-10, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.models.inception import InceptionV3
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task; on a CPU a sixteenth of the channels and a quarter of the resolution."""
    small = preset == "cpu"
    return cifar_task(
        name="inception-v3",
        preset=preset,
        model=InceptionV3(
            outputs=10,
            divisor=16 if small else 1,
            strides=(2, 1, 2) if small else (1, 1, 1),
        ),
        # The original's 23,834,568 for 1000 classes, less 990 logits of 2048 features and a bias.
        parameters=88_458 if small else 21_806_058,
        budget=Budget(images=4_000, epochs=5),
    )
