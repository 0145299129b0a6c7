"""What one comparison was asked to do, with every default filled in."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """The configuration of ``python -m experiments compare``; it goes into ``meta.json`` whole.

    Attributes:
        task: name of the task.
        learning_rates: the optimizers in the order of the report, and the rate of each.
        learning_rate_origin: how the rates were chosen.
        horizons: steps predicted ahead; 0 is the plain optimizer.
        baselines: whether the optimizers' baselines take part.
        seeds: the seeds, the same for every arm.
        epochs: passes over the training set.
        batch_size: examples per step.
        early_epoch: the epoch of the early training loss.
        target_loss: the training loss whose first epoch is reported.
    """

    task: str
    learning_rates: Mapping[str, float]
    learning_rate_origin: str
    horizons: tuple[float, ...]
    baselines: bool
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int
    early_epoch: int
    target_loss: float
