"""LeNet on the pieces of clothing of Fashion-MNIST (Xiao et al., arXiv 1708.07747)."""

from experiments.evidence.task import Task
from experiments.evidence.tasks.mnist import lenet_task


def make(preset: str) -> Task:
    """Returns the task."""
    return lenet_task("fashion-mnist", "fashion_mnist", preset)
