"""What is trained and evaluated, and what one run leaves."""

import dataclasses

from experiments.arms import horizon_label

OPTIMIZERS = {"sgdm": 0.1, "adam": 3e-3}  # learning rates, customary and not tuned


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNormConfig:
    """The configuration of ``python -m experiments batch-norm``.

    Attributes:
        optimizers: names of the optimizers.
        horizons: steps predicted ahead; 0 is the plain optimizer.
        momenta: of the running statistics.
        seeds: the seeds, the same for every arm.
        epochs: passes over the training set.
        batch_size: examples per step, also of recalibration.
    """

    optimizers: tuple[str, ...]
    horizons: tuple[float, ...]
    momenta: tuple[float, ...]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int = 32

    def arms(self) -> list["BatchNormArm"]:
        """All combinations."""
        return [
            BatchNormArm(optimizer, s, momentum)
            for optimizer in self.optimizers
            for momentum in self.momenta
            for s in self.horizons
        ]


@dataclasses.dataclass(frozen=True)
class BatchNormArm:
    """One way to train.

    Attributes:
        optimizer: key into ``OPTIMIZERS``.
        s: steps predicted ahead.
        momentum: of the running statistics.
    """

    optimizer: str
    s: float
    momentum: float

    def __str__(self) -> str:
        return f"{self.optimizer} {horizon_label(self.s)} momentum {self.momentum:g}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNormRecord:
    """One arm at one seed: one line of ``runs.jsonl``; lists have one entry for each epoch.

    Attributes:
        optimizer: name of the optimizer.
        s: steps predicted ahead.
        momentum: of the running statistics.
        seed: the seed.
        running_accuracy: test accuracy in percent at θ with the statistics that training left.
        recalibrated_accuracy: the same with statistics measured anew at θ.
        running_loss: test loss with the statistics that training left.
        recalibrated_loss: the same with statistics measured anew.
    """

    optimizer: str
    s: float
    momentum: float
    seed: int
    running_accuracy: list[float]
    recalibrated_accuracy: list[float]
    running_loss: list[float]
    recalibrated_loss: list[float]
