"""The learning rates of a task: what is usual for each optimizer, and grids around that."""

from collections.abc import Mapping

from experiments.arms import OPTIMIZERS

_FACTORS = (1 / 3, 1, 3)


def usual_rates(*, sgdm: float, adam: float) -> dict[str, float]:
    """Returns a usual learning rate of each optimizer, as its row in ``arms`` says.

    Args:
        sgdm: that of SGD with momentum 0.9.
        adam: that of Adam.
    """
    return {name: row.usual_rate(sgdm, adam) for name, row in OPTIMIZERS.items()}


def grids(*, sgdm: float, adam: float) -> Mapping[str, tuple[float, ...]]:
    """Returns three learning rates around each of :func:`usual_rates`, a factor of 3 apart."""
    return {
        name: tuple(float(f"{rate * factor:.2g}") for factor in _FACTORS)
        for name, rate in usual_rates(sgdm=sgdm, adam=adam).items()
    }
