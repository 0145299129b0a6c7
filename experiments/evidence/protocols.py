"""How tasks are trained: the usual rates of each optimizer, and the grids around them."""

from experiments.evidence.task import Protocol

_FACTORS = (1 / 3, 1, 3)


def protocol_of(
    *,
    sgdm: float,
    adam: float,
    batch_size: int,
    epochs: int,
    schedule: str,
    weight_decay: float = 5e-4,
    clip_norm: float | None = None,
    measure_batch_size: int | None = None,
) -> Protocol:
    """Returns a protocol whose grids are three rates around a usual one, a factor of 3 apart.

    Args:
        sgdm: the usual rate of SGD with momentum 0.9.
        adam: that of Adam, also taken for its relatives; AdaM3 and Lion get a third of it, Muon
            ten times as much.
        batch_size: as for :class:`Protocol`, and so are the rest.
        epochs: passes over the training set.
        schedule: the shape of the learning rate.
        weight_decay: of the optimizers that decouple it.
        clip_norm: largest norm of a gradient.
        measure_batch_size: examples per batch when measuring.
    """
    usual = {"sgdm": sgdm, "adam3": adam / 3, "lion": adam / 3, "muon": 10 * adam}
    relatives = ("rmsprop", "adam", "adamw", "adabelief", "radam", "yogi", "adabound")
    usual |= dict.fromkeys(relatives, adam)
    return Protocol(
        batch_size=batch_size,
        epochs=epochs,
        schedule=schedule,
        learning_rates={
            name: tuple(float(f"{rate * factor:.2g}") for factor in _FACTORS)
            for name, rate in usual.items()
        },
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        measure_batch_size=measure_batch_size,
    )
