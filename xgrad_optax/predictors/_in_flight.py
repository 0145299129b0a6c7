"""The prediction with the gradients that are on their way."""

from typing import Any

import optax

from xgrad_optax._hyperparameters import Hyperparameters
from xgrad_optax._pending import DelayedState, Ring
from xgrad_optax._typing import OptState, Params, Updates
from xgrad_optax.predictors._base import zero_before
from xgrad_optax.predictors._transforms import Transform
from xgrad_optax.predictors._zero_gradient import ZeroGradient


class InFlight(ZeroGradient):
    """The optimizer's own next steps, with the gradients in flight and then with zeros.

    It reads the rings of :func:`xgrad_optax.delayed` and reduces nothing: a device predicts with
    its own gradients, without any communication.
    """

    @classmethod
    def of(cls, inner: optax.GradientTransformation, ring: Ring) -> "InFlight":
        """The roll-out of the optimizer behind the rings."""
        inner = optax.with_extra_args_support(inner)
        return cls(Hyperparameters(inner=Transform(inner), ring=ring))

    def bind(self, inner: optax.GradientTransformationExtraArgs) -> "InFlight":
        """Remains the roll-out of what is behind the rings."""
        del inner
        return self

    def _step(self, k: Any, state: OptState, params: Params) -> tuple[Updates, OptState]:
        assert isinstance(state, DelayedState)  # it is predicted for no other transform
        ring: Ring = self.hyperparameters["ring"]
        grads = ring.upcoming(state.pending, state.position, k)
        updates, inner_state = self._update(grads, state.inner_state, params)
        is_applied = state.position + k >= ring.delay  # before, the ring is being filled
        inner_state = optax.tree.where(is_applied, inner_state, state.inner_state)
        return zero_before(is_applied, updates), state._replace(inner_state=inner_state)
