"""The prediction that asks the optimizer itself: what would it do without further gradients?"""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._hyperparameters import Hyperparameters
from xgrad_optax._trees import is_masked, unboxed
from xgrad_optax._typing import OptState, Params, PyTree, Updates
from xgrad_optax.predictors._base import Predictor, scaled, zero_before
from xgrad_optax.predictors._transforms import Transform


@jax.tree_util.register_static
class Coverage:
    """Which parameters a state covers: the tree structure of its parameters, masks included.

    ``optax.tree.map_params`` calls ``init`` with a placeholder that has no leaves and compares the
    result with a real state; so a coverage without leaves, which covers nothing, equals any other.
    """

    def __init__(self, params: Params):
        self._structure = jax.tree.structure(params)

    def select(self, params: Params) -> Params:
        """``params`` with ``optax.MaskedNode`` in place of what is not covered."""
        covered = jax.tree.unflatten(self._structure, [True] * self._structure.num_leaves)
        return jax.tree.map(
            lambda c, p: c if is_masked(c) else p, unboxed(covered), params, is_leaf=is_masked
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Coverage):
            return NotImplemented
        structures = (self._structure, other._structure)
        return structures[0] == structures[1] or any(s.num_leaves == 0 for s in structures)

    def __hash__(self) -> int:
        return hash(Coverage)


class ZeroGradient(Predictor):
    """See :func:`zero_gradient`."""

    transient: ClassVar[bool] = True
    leafless: ClassVar[bool] = True
    starts_at_zero: ClassVar[bool] = True

    def bind(self, inner: optax.GradientTransformationExtraArgs) -> "ZeroGradient":
        """Remembers the transform that is to be rolled out."""
        return ZeroGradient(Hyperparameters(inner=Transform(inner)))

    def init(self, params: Params) -> PyTree:
        """Whether an update was made (bool, shape ``()``), and which parameters are covered."""
        return jnp.zeros([], jnp.bool_), Coverage(params)

    def observe(self, memory: PyTree, updates: Updates) -> PyTree:
        """Notes that an update was made."""
        del updates
        _, coverage = memory
        return jnp.ones([], jnp.bool_), coverage

    def predict(self, memory: PyTree, inner_state: OptState, params: Params, s: Any) -> Updates:
        """Σ_k U(0, S_{t+k}, θ_{t+k}) over s steps, linear in between."""
        started, coverage = memory
        return zero_before(started, self._roll_out(inner_state, coverage.select(params), s))

    def _roll_out(self, inner_state: OptState, params: Params, s: Any) -> Updates:
        zeros = optax.tree.zeros_like(params)

        def step(k: Any, carry: Any, weight: Any = 1.0) -> Any:
            displacement, state, theta = carry
            updates, state = self._step(k, state, theta)
            updates = optax.tree.cast_like(updates, theta)
            displacement = optax.tree.add(displacement, scaled(weight, updates))
            return displacement, state, optax.apply_updates(theta, updates)

        carry = (zeros, inner_state, params)
        if isinstance(s, float | int):
            whole = math.floor(s)
            for k in range(whole):  # unrolled: horizons are short and XLA fuses the steps
                carry = step(k, carry)
            return step(whole, carry, s - whole)[0] if s > whole else carry[0]
        whole = jnp.floor(s).astype(jnp.int32)
        carry = jax.lax.fori_loop(0, whole, step, carry)
        return step(whole, carry, s - jnp.floor(s))[0]

    def _step(self, k: Any, state: OptState, params: Params) -> tuple[Updates, OptState]:
        """The update of step k, from 0, and the state after it."""
        del k
        return self._update(optax.tree.zeros_like(params), state, params)

    def _update(self, grads: Updates, state: OptState, params: Params) -> tuple[Updates, OptState]:
        try:
            with jax.numpy_dtype_promotion("standard"):
                return self.hyperparameters["inner"].inner.update(grads, state, params)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "zero_gradient() does not fit this inner transform: its update cannot be called"
                f" without extra arguments ({error}). Use last_update() instead."
            ) from error


def zero_gradient() -> Predictor:
    r"""Predicts by asking the optimizer itself: what would it do if the next gradients were zero?

    .. math::
        \hat\theta_{t+s} - \theta_t = \sum_{k=0}^{s-1} U(0, S_{t+k}, \theta_{t+k})

    Learning-rate schedules, bias corrections and weight decay of steps t+1 … t+s are all accounted
    for. Fractional s interpolates linearly. For SGDM with s = 1 this is Nesterov's method. Costs no
    memory, and s extra (cheap) inner updates per prediction.

    The explicit form keeps the transform itself in the structure of its state: such a state cannot
    be pickled or exported by ``jax.export``, and a number s is part of its structure. (The drop-in
    form's state has none of it.) A transform that is rebuilt by the same code from equal numbers is
    the same to it; schedules and functions count as equal if their code and values are. The state
    of a transform that is built from traced values must not leave the program.

    Transforms whose update requires extra arguments (a loss value, say) cannot be rolled out.
    ``optax.inject_hyperparams`` goes *inside* ``with_weight_prediction`` with this predictor.

    Returns:
      A predictor whose memory is one boolean.

    Examples:
      >>> import jax.numpy as jnp, optax, xgrad_optax
      >>> lookahead_params, tx = xgrad_optax.with_weight_prediction(
      ...     optax.sgd(0.5, momentum=0.5), s=2, predictor=zero_gradient()
      ... )
      >>> params = jnp.array(1.0)
      >>> updates, state = tx.update(jnp.array(0.2), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)  # 0.9; then -0.05 and -0.025 of momentum
      >>> round(float(lookahead_params(params, state)), 6)
      0.825

    References:
      Nesterov's method as a look-ahead along the momentum: Sutskever et al., 2013, eq. 3-4; here
      for any transform.
    """
    return ZeroGradient(Hyperparameters(inner=None))
