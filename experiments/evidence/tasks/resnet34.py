"""ResNet-34 on CIFAR-10, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.models.resnet import RESNET34, BasicBlock, ResNet
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task; on a CPU an eighth of the channels and a quarter of the resolution."""
    small = preset == "cpu"
    return cifar_task(
        name="resnet34",
        preset=preset,
        model=resnet34(10, small),
        # The count of the PyTorch version for CIFAR that is in wide use.
        parameters=336_114 if small else 21_282_122,
        budget=Budget(images=5_000, epochs=5),
    )


def resnet34(outputs: int, small: bool) -> ResNet:
    """Returns the network."""
    return ResNet(
        outputs,
        stages=RESNET34,
        block=BasicBlock,
        divisor=8 if small else 1,
        stride=4 if small else 1,
    )
