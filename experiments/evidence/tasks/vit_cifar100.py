"""A small ViT on CIFAR-100, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.task import Task
from experiments.evidence.tasks.vit import vit


def make(preset: str) -> Task:
    """Returns the task; the network is that of CIFAR-10 with 100 logits."""
    small = preset == "cpu"
    return cifar_task(
        name="vit-cifar100",
        preset=preset,
        model=vit(100, small),
        classes=100,
        parameters=87_076 if small else 9_579_108,
        budget=Budget(images=6_000, epochs=6),
        schedule="warmup-cosine",
        sgdm=0.01,
        adam=1e-3 if small else 1e-4,
    )
