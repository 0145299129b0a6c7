"""Types of the trees that pass through Optax interfaces.

Optax's own aliases are unions over recursive containers that no concrete state satisfies, so they
are spelled as what they are to a type checker: anything.
"""

from typing import Any, Protocol, TypeVar

PyTree = Any
Params = Any
Updates = Any
OptState = Any

ParamsT = TypeVar("ParamsT")
"""The user's own type of parameters: what an accessor is given is what it returns."""


class Lookahead(Protocol):
    """The predicted parameters, of the type of ``params``."""

    def __call__(self, params: ParamsT, opt_state: OptState) -> ParamsT:
        """Returns θ̂; ``opt_state`` is the outermost state."""
        ...
