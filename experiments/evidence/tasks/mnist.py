"""LeNet on the handwritten digits of MNIST."""

from experiments.evidence.classification import image_task
from experiments.evidence.models.lenet import LeNet
from experiments.evidence.protocols import protocol_of
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task."""
    return lenet_task("mnist", "mnist", preset)


def lenet_task(name: str, dataset: str, preset: str) -> Task:
    """Returns a task on one of the data sets of MNIST's shape; on a CPU fewer images."""
    small = preset == "cpu"
    return image_task(
        name=name,
        preset=preset,
        model=LeNet(outputs=10),
        protocol=protocol_of(
            sgdm=0.01,
            adam=1e-3,
            batch_size=64 if small else 128,
            epochs=5 if small else 50,
            schedule="cosine" if small else "step",
            measure_batch_size=500,
        ),
        # The count for 28 x 28 pixels; the third layer has 16 * 4 * 4 inputs.
        parameters=44_426,
        dataset=dataset,
        shape=(28, 28, 1),
        train=8_000 if small else None,
        validation=2_000 if small else 5_000,
        test=2_000 if small else None,
    )
