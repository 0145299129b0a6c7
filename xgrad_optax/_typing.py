"""Types of the trees that pass through Optax interfaces.

Optax's own aliases are unions over recursive containers that no concrete state satisfies, so they
are spelled as what they are to a type checker: anything.
"""

from typing import Any

PyTree = Any
Params = Any
Updates = Any
OptState = Any
