"""How tasks are trained where every arm has the one rate of its optimizer, and none is tuned.

``run`` and ``sweep`` go by a task's protocol, and a sweep chooses rates around its usual ones.
Comparisons in minutes go by what is here: those usual ones for tasks without a line of their own.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from experiments.arms import OF_PAPERS
from experiments.rates import usual_rates
from experiments.task import Protocol
from experiments.tasks import load_task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How a task is trained in a comparison.

    Attributes:
        protocol: batches, epochs, schedule and the rest, but for the rates.
        learning_rates: of each optimizer.
        origin: how those of the papers' optimizers were chosen.
        early_epoch: the epoch at which the early training loss is read.
        target_loss: the training loss whose first epoch is reported, None for none.
    """

    protocol: Protocol
    learning_rates: Mapping[str, float]
    origin: str
    early_epoch: int
    target_loss: float | None

    def origin_of(self, optimizers: Sequence[str]) -> str:
        """Returns how the rates of these optimizers were chosen, for reports."""
        others = [name for name in optimizers if name not in OF_PAPERS]
        return f"{self.origin}; for {', '.join(others)} as is usual" if others else self.origin


def _constant(*, batch_size: int, epochs: int, measure_batch_size: int) -> Protocol:
    return Protocol(
        batch_size=batch_size,
        epochs=epochs,
        schedule="constant",
        learning_rates={},
        weight_decay=None,
        measure_batch_size=measure_batch_size,
    )


_TRAININGS: Mapping[str, Training] = {
    "digits": Training(
        protocol=_constant(batch_size=32, epochs=30, measure_batch_size=1077),
        # The rate with the lowest mean validation loss after the last epoch, plain optimizers only,
        # 8 seeds that the comparison does not use, from 0.003, 0.01, 0.03, 0.1, 0.3 for sgdm and
        # 3e-4, 1e-3, 3e-3, 1e-2, 3e-2 for the others. One grid point is
        #   compare --horizons 0 --no-baselines --first-seed 1000 --learning-rates adam=1e-3 ...
        learning_rates=usual_rates(sgdm=0.1, adam=1e-3) | {"adam3": 3e-4},
        origin="task defaults, tuned for the plain optimizers on validation loss",
        early_epoch=5,
        target_loss=0.1,
    ),
    "cifar10-lenet": Training(
        protocol=_constant(batch_size=128, epochs=10, measure_batch_size=500),
        learning_rates=usual_rates(sgdm=1e-2, adam=1e-3) | {"adam3": 3e-4},
        origin="customary values, not tuned for this task",
        early_epoch=3,
        target_loss=1.2,
    ),
}


def training_of(name: str) -> Training:
    """Returns how a task is trained in a comparison."""
    return _TRAININGS.get(name) or _as_in_a_sweep(load_task(name).protocol)


def _as_in_a_sweep(protocol: Protocol) -> Training:
    return Training(
        protocol=protocol,
        learning_rates=protocol.learning_rates,
        origin="the usual ones of the task, around which a sweep begins",
        early_epoch=max(1, protocol.epochs // 3),
        target_loss=None,
    )
