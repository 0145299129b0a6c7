"""VGG-11 on CIFAR-10, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.models.vgg import VGG, VGG11
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task; on a CPU a sixteenth of the channels."""
    small = preset == "cpu"
    return cifar_task(
        name="vgg11",
        preset=preset,
        model=VGG(outputs=10, groups=VGG11, divisor=16 if small else 1),
        # The count of the PyTorch version for CIFAR that is in wide use.
        parameters=36_954 if small else 9_231_114,
        budget=Budget(images=5_000, epochs=5),
    )
