"""LeNet on CIFAR-10, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.models.lenet import LeNet
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task, with the same network at both presets."""
    return cifar_task(
        name="lenet",
        preset=preset,
        model=LeNet(outputs=10),
        parameters=62_006,
        budget=Budget(images=4_000, epochs=6),
        sgdm=0.01,
    )
