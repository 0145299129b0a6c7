"""DenseNet-121 on CIFAR-10, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.models.densenet import DENSENET121, DenseNet
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task; on a CPU an eighth of the channels and a quarter of the resolution."""
    small = preset == "cpu"
    return cifar_task(
        name="densenet121",
        preset=preset,
        model=DenseNet(
            outputs=10,
            blocks=DENSENET121,
            growth=4 if small else 32,
            stride=4 if small else 1,
        ),
        # The count of the PyTorch version for CIFAR that is in wide use.
        parameters=120_106 if small else 6_956_298,
        budget=Budget(images=5_000, epochs=6),
    )
