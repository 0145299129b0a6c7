"""The bytes that a variant cannot avoid, whoever implements it.

A train step reads θ for the forward and backward pass and again for the update. Prediction reads θ̂
in the first two places instead. Beyond the plain step it therefore has to read θ once more, read
whatever it predicts from, and write θ̂; parameters do not fit into a cache. In the drop-in form the
predicted parameters are those of the plain step, and the base parameters come on top.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple


class Sizes(NamedTuple):
    """What floors are computed from.

    Attributes:
        parameters: number of parameters.
        params: their bytes.
        moments: bytes of what the plain optimizer keeps for each parameter.
        has_momentum: whether those moments tell a direction.
    """

    parameters: int
    params: int
    moments: int
    has_momentum: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Least:
    """A floor in bytes.

    Attributes:
        traffic: bytes that any implementation must read and write beyond the plain step.
        state: bytes that it must carry from step to step beyond the plain step.
    """

    traffic: int
    state: int


@dataclasses.dataclass(frozen=True)
class Floor:
    """The least that a variant adds to the plain step, for any model.

    Attributes:
        formula: how the traffic comes about, for the report.
        traffic: bytes read and written in addition.
        state: bytes carried from step to step in addition.
    """

    formula: str
    traffic: Callable[[Sizes], int]
    state: Callable[[Sizes], int]

    def of(self, sizes: Sizes) -> Least:
        """Returns the bounds for one model."""
        return Least(traffic=self.traffic(sizes), state=self.state(sizes))


def _none(sizes: Sizes) -> int:
    del sizes
    return 0


NOTHING = Floor("nothing", _none, _none)

READ_MOMENTS = Floor(
    "read the moments, read θ, write θ̂", lambda sizes: sizes.moments + 2 * sizes.params, _none
)

# Without a gradient, and without momentum, an optimizer does nothing: θ̂ is θ.
ROLLOUT = Floor(
    "read the moments, read θ, write θ̂; without momentum nothing",
    lambda sizes: READ_MOMENTS.traffic(sizes) if sizes.has_momentum else 0,
    _none,
)

BASE_COPY = Floor("read and write θ", lambda sizes: 2 * sizes.params, lambda sizes: sizes.params)


def remembered_update(bytes_per_number: int | None = None) -> Floor:
    """Returns the floor of remembering the last update.

    Args:
        bytes_per_number: size of a remembered number, None for that of a parameter.
    """

    def memory(sizes: Sizes) -> int:
        return sizes.params if bytes_per_number is None else bytes_per_number * sizes.parameters

    return Floor(
        "read and write the remembered update, read θ, write θ̂",
        lambda sizes: 2 * memory(sizes) + 2 * sizes.params,
        memory,
    )
