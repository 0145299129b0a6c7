"""VGG-16 on CIFAR-10, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.models.vgg import VGG, VGG16
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task; on a CPU a sixteenth of the channels."""
    small = preset == "cpu"
    return cifar_task(
        name="vgg16",
        preset=preset,
        model=vgg16(10, small),
        # The count of the PyTorch version for CIFAR that is in wide use.
        parameters=58_686 if small else 14_728_266,
        budget=Budget(images=3_000, epochs=4),
    )


def vgg16(outputs: int, small: bool) -> VGG:
    """Returns the network."""
    return VGG(outputs, groups=VGG16, divisor=16 if small else 1)
