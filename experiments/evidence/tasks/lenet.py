"""LeNet on CIFAR-10, as in XGrad (arXiv 2305.18240), section 4.1."""

from experiments.evidence.classification import image_task
from experiments.evidence.models.lenet import LeNet
from experiments.evidence.protocols import protocol_of
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task; on a CPU 4,000 images and 6 epochs, in the paper all and 200."""
    small = preset == "cpu"
    return image_task(
        name="lenet",
        preset=preset,
        model=LeNet(outputs=10),
        protocol=protocol_of(
            sgdm=0.01,
            adam=1e-3,
            batch_size=64 if small else 128,
            epochs=6 if small else 200,
            schedule="cosine" if small else "step",
            measure_batch_size=500,
        ),
        parameters=62_006,
        train=4_000 if small else None,
        validation=1_000 if small else 5_000,
        test=2_000 if small else None,
        augmented=not small,
    )
