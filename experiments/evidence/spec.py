"""What one run is: everything that decides its numbers."""

import dataclasses
import hashlib
import json


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training run.

    Attributes:
        task: key into ``TASKS``.
        preset: ``"cpu"`` or ``"paper"``.
        optimizer: key into ``methods.OPTIMIZERS``.
        arm: as for :func:`~experiments.evidence.methods.read_arm`.
        learning_rate: the rate that the schedule is multiplied by.
        seed: decides initial parameters, order and all else that is random.
        epochs: passes over the training set, None for the task's.
        weight_decay: None for the task's.
    """

    task: str
    preset: str
    optimizer: str
    arm: str
    learning_rate: float
    seed: int
    epochs: int | None = None
    weight_decay: float | None = None

    @property
    def key(self) -> str:
        """A name for files, the same for the same run."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return f"{self.task}-{self.optimizer}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def __str__(self) -> str:
        """The run in a line."""
        decay = "" if self.weight_decay is None else f" decay {self.weight_decay:g}"
        return (
            f"{self.task} {self.optimizer} {self.arm} rate {self.learning_rate:g}{decay} "
            f"seed {self.seed}"
        )
