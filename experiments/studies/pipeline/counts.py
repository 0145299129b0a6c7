"""What two schedules of P stages keep busy and keep in memory, counted; no JAX.

A tick is the time of one forward and one backward pass of one micro-batch through one stage. Both
schedules keep a stage's inputs and compute the rest again.
"""

from typing import Any, NamedTuple


class Kept(NamedTuple):
    """What one device keeps besides its weights and its optimizer's state.

    Attributes:
        inputs: of its stage, one for each micro-batch in flight.
        weights: copies of its weights that stay until a backward pass uses them.
    """

    inputs: int
    weights: int

    def bytes(self, input_size: int, weights_size: int) -> int:
        """Their size, given that of one micro-batch's input and that of a stage's weights."""
        return self.inputs * input_size + self.weights * weights_size


def delay(stages: int, stage: Any) -> Any:
    """How many updates late the gradients of a stage are: 2 (P - 1 - i); i may be traced."""
    return 2 * (stages - 1 - stage)


def updates(stages: int, stage: int, ticks: int) -> int:
    """How many updates a stage of the asynchronous pipeline makes in so many ticks."""
    return max(0, ticks - 2 * (stages - 1) + stage)


def busy_share(stages: int, ticks: int) -> float:
    """The part of the asynchronous pipeline's passes that are of a micro-batch: 1 after a while."""
    forward = sum(max(0, ticks - stage) for stage in range(stages))
    backward = sum(updates(stages, stage, ticks) for stage in range(stages))
    return (forward + backward) / (2 * stages * ticks)


def flushed_ticks(stages: int, micro_batches: int) -> int:
    """How long GPipe's step takes: m + P - 1."""
    return micro_batches + stages - 1


def flushed_busy_share(stages: int, micro_batches: int) -> float:
    """The part of GPipe's passes that are of a micro-batch: m / (m + P - 1)."""
    return micro_batches / flushed_ticks(stages, micro_batches)


def kept(stages: int, *, stash: bool) -> Kept:
    """What a device keeps for an asynchronous pipeline.

    The program is the same on every device, so all keep what the first stage needs; stage i would
    need τ_i + 1 of each, P on average.
    """
    length = 2 * stages - 1
    return Kept(length, length if stash else 0)


def flushed_kept(micro_batches: int) -> Kept:
    """What a device keeps for GPipe."""
    return Kept(micro_batches, 0)
