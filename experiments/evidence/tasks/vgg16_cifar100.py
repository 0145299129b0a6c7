"""VGG-16 on CIFAR-100, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.task import Task
from experiments.evidence.tasks.vgg16 import vgg16


def make(preset: str) -> Task:
    """Returns the task; the network is that of CIFAR-10 with 100 logits."""
    small = preset == "cpu"
    return cifar_task(
        name="vgg16-cifar100",
        preset=preset,
        model=vgg16(100, small),
        classes=100,
        parameters=61_656 if small else 14_774_436,
        budget=Budget(images=3_000, epochs=4),
    )
