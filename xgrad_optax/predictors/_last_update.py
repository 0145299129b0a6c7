"""The prediction that the optimizer repeats its last update."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from xgrad_optax._hyperparameters import Hyperparameters
from xgrad_optax._trees import is_none, is_real
from xgrad_optax._typing import OptState, Params, PyTree, Updates
from xgrad_optax.predictors._base import Predictor, scaled


class LastUpdate(Predictor):
    """See :func:`last_update`."""

    transient: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    starts_at_zero: ClassVar[bool] = True

    def init(self, params: Params) -> PyTree:
        """Zeros: nothing has been observed."""
        return jax.tree.map(lambda p: jnp.zeros_like(p, dtype=self._dtype_for(p)), params)

    def observe(self, memory: PyTree, updates: Updates) -> PyTree:
        """Keeps the update, in the memory's dtype; leaves without an update stay."""

        def kept(update: Any, old: Any) -> Any:
            if update is None:
                return None if old is None else jnp.zeros_like(old)
            return jnp.asarray(update).astype(old.dtype)

        return jax.tree.map(kept, updates, memory, is_leaf=is_none)

    def predict(self, memory: PyTree, inner_state: OptState, params: Params, s: Any) -> Updates:
        """s·u_t."""
        del inner_state, params
        return scaled(s, memory)

    def _dtype_for(self, param: Any) -> Any:
        # A floating-point dtype is for real numbers: imaginary parts must not get lost in it.
        own, dtype = jnp.result_type(param), self.hyperparameters["dtype"]
        wanted = dtype is not None and (is_real(param) or not jnp.issubdtype(dtype, jnp.floating))
        return jnp.dtype(dtype if wanted else own)


def last_update(dtype: jax.typing.DTypeLike | None = None) -> Predictor:
    r"""Predicts that the optimizer repeats the update it just made: :math:`d_t = u_t`.

    Works for every transform and chain, and is the default for those that this library has no
    closed form for. For RMSprop it is the papers' own rule.

    Args:
      dtype: dtype of the remembered update; ``None`` for the parameters' own. ``jnp.bfloat16``
        halves the memory. A floating-point dtype leaves complex parameters alone.

    Returns:
      A predictor whose memory is one tree like the parameters.

    Raises:
      TypeError: ``dtype`` is no dtype.
      ValueError: ``dtype`` is not a floating-point or complex dtype.

    Examples:
      >>> import jax.numpy as jnp, optax, xgrad_optax
      >>> lookahead_params, tx = xgrad_optax.with_weight_prediction(
      ...     optax.sgd(0.5), s=2, predictor=last_update()
      ... )
      >>> params = jnp.array(1.0)
      >>> updates, state = tx.update(jnp.array(0.2), tx.init(params), params)
      >>> float(updates), float(lookahead_params(params + updates, state))  # 0.9 + 2·(-0.1)
      (-0.10..., 0.69...)

    References:
      XGrad, arXiv 2305.18240, eq. 6 (the update is :math:`\Delta\theta_t`).
    """
    if dtype is not None:
        dtype = jnp.dtype(dtype)
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(
                f"last_update(dtype=...) remembers updates, which need a floating-point or complex"
                f" dtype, got {dtype}."
            )
    return LastUpdate(Hyperparameters(dtype=dtype))
