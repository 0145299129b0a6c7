"""A small ViT on CIFAR-10, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.cifar import Budget, cifar_task
from experiments.evidence.models.vit import ViT
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task; on a CPU two narrow layers over patches of 8 x 8."""
    small = preset == "cpu"
    return cifar_task(
        name="vit",
        preset=preset,
        model=vit(10, small),
        parameters=81_226 if small else 9_532_938,
        budget=Budget(images=6_000, epochs=6),
        schedule="warmup-cosine",
        sgdm=0.01,
        adam=1e-3 if small else 1e-4,
    )


def vit(outputs: int, small: bool) -> ViT:
    """Returns the network."""
    if small:
        return ViT(outputs, patch=8, width=64, hidden=128, layers=2, heads=4)
    return ViT(outputs, patch=4, width=512, hidden=512, layers=6, heads=8)
