"""GoogLeNet on CIFAR-10, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.models.googlenet import GoogLeNet
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task; on a CPU an eighth of the channels and a quarter of the resolution."""
    small = preset == "cpu"
    return cifar_task(
        name="googlenet",
        preset=preset,
        model=GoogLeNet(outputs=10, divisor=8 if small else 1, stride=4 if small else 1),
        # The count of the PyTorch version for CIFAR that is in wide use.
        parameters=103_518 if small else 6_166_250,
        budget=Budget(images=3_000, epochs=4),
    )
