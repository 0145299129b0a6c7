"""ResNet-34 on CIFAR-100, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.task import Task
from experiments.evidence.tasks.resnet34 import resnet34


def make(preset: str) -> Task:
    """Returns the task; the network is that of CIFAR-10 with 100 logits."""
    small = preset == "cpu"
    return cifar_task(
        name="resnet34-cifar100",
        preset=preset,
        model=resnet34(100, small),
        classes=100,
        parameters=341_964 if small else 21_328_292,
        budget=Budget(images=5_000, epochs=5),
    )
