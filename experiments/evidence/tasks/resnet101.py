"""ResNet-101 on CIFAR-10, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.models.resnet import RESNET101, BottleneckBlock, ResNet
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task; on a CPU an eighth of the channels and a quarter of the resolution."""
    small = preset == "cpu"
    return cifar_task(
        name="resnet101",
        preset=preset,
        model=ResNet(
            outputs=10,
            stages=RESNET101,
            block=BottleneckBlock,
            divisor=8 if small else 1,
            stride=4 if small else 1,
        ),
        # The count of the PyTorch version for CIFAR that is in wide use.
        parameters=679_186 if small else 42_512_970,
        budget=Budget(images=4_000, epochs=5),
    )
