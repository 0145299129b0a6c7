"""What one comparison was asked to do, with every default filled in."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from experiments.arms import NESTEROV, OPTIMIZERS, arm_of, horizon_label

PLAIN = horizon_label(0)


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
        target_loss: the training loss whose first epoch is reported, None for none.
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
    target_loss: float | None


class Arm(NamedTuple):
    """One optimizer in one form: a line in a plot, a row in a table.

    Attributes:
        optimizer: key into ``arms.OPTIMIZERS``.
        label: ``"s=1"``, or the baseline's name.
        form: the arm's name in ``arms``.
        horizon: steps predicted ahead, 0 for the plain optimizer, None for a baseline.
        learning_rate: shared by all arms of an optimizer.
    """

    optimizer: str
    label: str
    form: str
    horizon: float | None
    learning_rate: float


def make_arms(
    learning_rates: Mapping[str, float], horizons: tuple[float, ...], baselines: bool
) -> list[Arm]:
    """Returns the arms of each optimizer in ``learning_rates``: the horizons, then the baseline."""
    arms = []
    for name, rate in learning_rates.items():
        arms += [Arm(name, horizon_label(s), arm_of(s), s, rate) for s in horizons]
        baseline = OPTIMIZERS[name].baseline
        if baselines and baseline:
            arms.append(Arm(name, baseline, NESTEROV, None, rate))
    return arms
