"""How far gradient noise keeps the parameters from the minimum."""

import jax
import jax.numpy as jnp

from xgrad_optax.stability._inputs import inputs, whole_delay
from xgrad_optax.stability._polynomial import innovations_share
from xgrad_optax.stability._recurrence import parts_of, terms_of

ArrayLike = jax.typing.ArrayLike


def stationary_variance(
    curvature: ArrayLike,
    learning_rate: ArrayLike,
    s: ArrayLike,
    momentum: ArrayLike,
    noise_variance: ArrayLike = 1.0,
    *,
    method: str = "sgdm",
    weight_decay: ArrayLike = 0.0,
    coupled: bool = False,
    delay: int = 0,
) -> jax.Array:
    r"""The variance of θ around the minimum that gradient noise keeps up.

    .. math::
        \operatorname{Var} \theta
        = \frac{\eta^2 \sigma^2 (1 + D)}{(1 - D)(1 - T + D)(1 + T + D)}
        = \frac{\gamma^2 \sigma^2 (1 + \mu - s a)}
               {a\, (1 - \mu + s a)\, (2 (1 + \mu) - (1 + 2 s) a)}

    where every gradient has independent noise of variance σ², η is γ for ``"sgdm"`` and
    :math:`(1 - \mu) \gamma` for ``"ema"``, and the second form is that of ``"sgdm"`` without weight
    decay. It solves the discrete Lyapunov equation :math:`\Sigma = C \Sigma C^T + Q`. With a delay
    θ is an autoregressive process of order τ + 2, and its variance

    .. math:: \operatorname{Var} \theta = \eta^2 \sigma^2 \prod_{m=1}^{\tau+2} \frac{1}{1 - k_m^2}

    by the reflection coefficients k of its polynomial: no eigenvalues, so it runs everywhere.

    Args:
      curvature: h, see :func:`companion_matrix`.
      learning_rate: γ >= 0.
      s: the horizon in steps, >= 0.
      momentum: μ in [0, 1).
      noise_variance: σ² >= 0, the variance of a mini-batch's gradient in this direction.
      method: ``"sgdm"`` or ``"ema"``.
      weight_decay: λ >= 0.
      coupled: whether the decay is part of the gradient.
      delay: τ, how many updates late each gradient is applied; a whole number, not traced.

    Returns:
      Var θ, in the shape that the arguments broadcast to; infinity where the step is not stable.

    Raises:
      TypeError: an argument is not a real number or array, or ``delay`` not a whole number.
      ValueError: an argument is not finite or outside its range, or ``method`` is unknown.

    Examples:
      >>> import jax.numpy as jnp
      >>> stationary_variance(1.0, learning_rate=0.1, s=jnp.array([0.0, 1.0, 4.0]), momentum=0.9)
      Array([0.513..., 0.257..., 0.103...], dtype=float32)
      >>> stationary_variance(1.0, 0.1, s=jnp.array([0.0, 1.0, 2.0]), momentum=0.9, delay=1)
      Array([  inf, 0.579..., 0.295...], dtype=float32)

    References:
      For SGD: Mandt et al., `Stochastic Gradient Descent as Approximate Bayesian Inference
      <https://arxiv.org/abs/1704.04289>`_, 2017, section 3 (in continuous time).
    """
    (noise_variance,) = inputs(noise_variance=noise_variance)
    setting = (curvature, learning_rate, s, momentum, method, weight_decay, coupled)
    terms = terms_of(*setting)
    if delay := whole_delay(delay):
        stable, share = innovations_share(parts_of(*setting).delayed(delay), terms.drift)
        driven = terms.step**2 * noise_variance.astype(share.dtype)
        return jnp.where(stable, driven / share, jnp.inf)
    margins = (1 - terms.determinant, terms.drift, terms.flip)
    stable = (margins[0] > 0) & (margins[1] > 0) & (margins[2] > 0)
    product = jnp.where(stable, margins[0] * margins[1] * margins[2], 1)
    driven = terms.step**2 * noise_variance.astype(product.dtype)
    return jnp.where(stable, driven * (1 + terms.determinant) / product, jnp.inf)
