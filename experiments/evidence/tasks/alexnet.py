"""AlexNet on CIFAR-10, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.models.alexnet import AlexNet
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task; on a CPU an eighth of the channels."""
    small = preset == "cpu"
    return cifar_task(
        name="alexnet",
        preset=preset,
        model=AlexNet(outputs=10, divisor=8 if small else 1),
        # The count of the PyTorch version for CIFAR that is in wide use.
        parameters=41_586 if small else 2_472_266,
        budget=Budget(images=6_000, epochs=6),
        sgdm=0.01,
    )
