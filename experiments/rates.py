"""The usual learning rate of each optimizer on a task; what is tuned begins around it."""

from experiments.arms import OPTIMIZERS


def usual_rates(*, sgdm: float, adam: float) -> dict[str, float]:
    """Returns a usual learning rate of each optimizer, as its row in ``arms`` says, to two digits.

    Args:
        sgdm: that of SGD with momentum 0.9.
        adam: that of Adam.
    """
    rates = {name: row.usual_rate(sgdm, adam) for name, row in OPTIMIZERS.items()}
    return {name: float(f"{rate:.2g}") for name, rate in rates.items()}
