"""Types that the signatures share."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from xgrad_optax._typing import Params

ArrayLike = jax.typing.ArrayLike
DTypeLike = jax.typing.DTypeLike
ScalarOrSchedule = optax.ScalarOrSchedule
WeightDecayMask = Any | Callable[[Params], Any] | None
