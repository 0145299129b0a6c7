r"""The quadratic model: at which learning rates prediction is stable, and which s is best.

On :math:`f(\theta) = \tfrac12 h \theta^2` momentum with weight prediction is a linear recurrence of
second order, :math:`\theta_{t+1} = T \theta_t - D \theta_{t-1}`, one for each eigenvalue h of a
Hessian. Everything here is a closed form of its coefficients; ``docs/stability.md`` derives them.

The prediction is :math:`\hat\theta = \theta - s \gamma v`, that of the closed forms and, without
weight decay, of ``last_update()`` too. For ``zero_gradient()`` pass :func:`effective_horizon` as s.
Nesterov's method is s = μ.

All functions take numbers or arrays that broadcast, and work under ``jit``, ``vmap`` and ``grad``.
"""

import jax
import jax.numpy as jnp
import numpy as np

from xgrad_optax._recurrence import (
    bisect_radius,
    check,
    coupled_limits,
    decoupled_limits,
    gradient_share,
    inputs,
    terms_of,
)

__all__ = [
    "best_horizon",
    "companion_matrix",
    "effective_horizon",
    "max_learning_rate",
    "spectral_radius",
    "stationary_variance",
]

ArrayLike = jax.typing.ArrayLike


def companion_matrix(
    curvature: ArrayLike,
    learning_rate: ArrayLike,
    s: ArrayLike,
    momentum: ArrayLike,
    *,
    method: str = "sgdm",
    weight_decay: ArrayLike = 0.0,
    coupled: bool = False,
) -> jax.Array:
    r"""The matrix that takes :math:`(\theta_t, \theta_{t-1})` to :math:`(\theta_{t+1}, \theta_t)`.

    .. math::
        C = \begin{pmatrix} T & -D \\ 1 & 0 \end{pmatrix}, \quad
        T = 1 + \mu - (1 + s) a, \quad D = \mu - s a

    with :math:`a = \eta h`, and :math:`\eta = \gamma` for ``method="sgdm"``, where
    :math:`v \leftarrow \mu v + g`, or :math:`\eta = (1 - \mu) \gamma` for ``"ema"``, where
    :math:`v \leftarrow \mu v + (1 - \mu) g`. Decoupled weight decay subtracts
    :math:`\gamma \lambda` from T and multiplies D by :math:`1 - \gamma \lambda`; coupled decay
    subtracts :math:`\eta \lambda` from T.

    Args:
      curvature: h, an eigenvalue of the Hessian, of any sign. For Adam with a frozen preconditioner
        P, its eigenvalue in :math:`P^{-1/2} H P^{-1/2}`, and ``method="ema"`` with
        ``momentum=b1``: the bias correction dies out like :math:`\beta_1^t` and changes nothing.
      learning_rate: γ >= 0.
      s: the horizon in steps, >= 0.
      momentum: μ in [0, 1).
      method: ``"sgdm"`` or ``"ema"``, as above.
      weight_decay: λ >= 0.
      coupled: whether λθ is added to the gradient before the momentum, as in
        :func:`xgrad_optax.sgdm`, instead of to the update, as in :func:`xgrad_optax.adamw`.

    Returns:
      An array ``[..., 2, 2]``; the leading axes are those that the arguments broadcast to.

    Raises:
      TypeError: an argument is not a real number or array.
      ValueError: an argument is not finite or outside its range, or ``method`` is unknown.

    Examples:
      >>> companion_matrix(curvature=1.0, learning_rate=0.5, s=1, momentum=0.5)
      Array([[ 0.5, -0. ],
             [ 1. ,  0. ]], dtype=float32)

    References:
      Heavy ball and Nesterov's method as such recurrences: Lessard et al., `Analysis and Design of
      Optimization Algorithms via Integral Quadratic Constraints
      <https://arxiv.org/abs/1408.3595>`_, 2016, section 2.
    """
    terms = terms_of(curvature, learning_rate, s, momentum, method, weight_decay, coupled)
    one = jnp.ones_like(terms.trace)
    rows = [[terms.trace, -terms.determinant], [one, jnp.zeros_like(one)]]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def spectral_radius(
    curvature: ArrayLike,
    learning_rate: ArrayLike,
    s: ArrayLike,
    momentum: ArrayLike,
    *,
    method: str = "sgdm",
    weight_decay: ArrayLike = 0.0,
    coupled: bool = False,
) -> jax.Array:
    r"""The factor by which the distance to the minimum shrinks each step, in the long run.

    .. math::
        \rho = \begin{cases}
            \sqrt{D} & T^2 < 4 D \text{ (the iterates spiral in or out)} \\
            \tfrac12 |T| + \sqrt{\tfrac14 T^2 - D} & \text{otherwise}
        \end{cases}

    with T and D of :func:`companion_matrix`. Stable means ρ < 1.

    Args:
      curvature: h, see :func:`companion_matrix`.
      learning_rate: γ >= 0.
      s: the horizon in steps, >= 0.
      momentum: μ in [0, 1).
      method: ``"sgdm"`` or ``"ema"``.
      weight_decay: λ >= 0.
      coupled: whether the decay is part of the gradient.

    Returns:
      ρ, in the shape that the arguments broadcast to.

    Raises:
      TypeError: an argument is not a real number or array.
      ValueError: an argument is not finite or outside its range, or ``method`` is unknown.

    Examples:
      >>> import jax.numpy as jnp
      >>> round(float(spectral_radius(1.0, learning_rate=0.1, s=0, momentum=0.9)), 4)  # √0.9
      0.9487
      >>> spectral_radius(1.0, 0.1, jnp.array([1.0, 2.0, 4.0]), 0.9)  # √(0.9 - 0.1 s)
      Array([0.894..., 0.836..., 0.707...], dtype=float32)
    """
    terms = terms_of(curvature, learning_rate, s, momentum, method, weight_decay, coupled)
    half = 0.5 * terms.trace
    discriminant = half**2 - terms.determinant
    spiral = discriminant < 0
    # Each root's argument is harmless where the other one counts, so that gradients are finite too.
    modulus = jnp.sqrt(jnp.where(spiral, terms.determinant, 1))
    largest = jnp.abs(half) + jnp.sqrt(jnp.where(spiral, 0, discriminant))
    return jnp.where(spiral, modulus, largest)


def max_learning_rate(
    curvature: ArrayLike,
    s: ArrayLike,
    momentum: ArrayLike,
    *,
    method: str = "sgdm",
    weight_decay: ArrayLike = 0.0,
    coupled: bool = False,
) -> jax.Array:
    r"""The learning rate below which a step is stable.

    .. math:: \gamma_{\max} = \frac{2 (1 + \mu)}{h (1 + 2 s)}

    for ``method="sgdm"`` without weight decay and h > 0; ``"ema"`` multiplies it by
    :math:`1 / (1 - \mu)`. For a spectrum it is that of the largest curvature.

    Args:
      curvature: h, see :func:`companion_matrix`.
      s: the horizon in steps, >= 0.
      momentum: μ in [0, 1).
      method: ``"sgdm"`` or ``"ema"``.
      weight_decay: λ >= 0.
      coupled: whether the decay is part of the gradient.

    Returns:
      The supremum of stable learning rates: 0 where none is stable (negative curvature that no
      decay makes up for), infinity where none diverges (zero curvature).

    Raises:
      TypeError: an argument is not a real number or array.
      ValueError: an argument is not finite or outside its range, or ``method`` is unknown.

    Examples:
      >>> import jax.numpy as jnp
      >>> max_learning_rate(10.0, jnp.array([0.0, 1.0, 2.0]), momentum=0.9)
      Array([0.38..., 0.126..., 0.076...], dtype=float32)
      >>> round(float(max_learning_rate(10.0, 1, momentum=0.9, method="ema")), 4)  # Adam's β₁
      1.2667

    References:
      For s = 0: Polyak, `Some methods of speeding up the convergence of iteration methods
      <https://doi.org/10.1016/0041-5553(64)90137-5>`_, 1964. For Adam: Cohen et al., `Adaptive
      Gradient Methods at the Edge of Stability <https://arxiv.org/abs/2207.14484>`_, 2022.
    """
    h, s, mu, decay = inputs(curvature=curvature, s=s, momentum=momentum, weight_decay=weight_decay)
    scaled = gradient_share(method, mu) * h
    limits = coupled_limits if coupled else decoupled_limits
    return limits(scaled, s, mu, gradient_share(method, mu) * decay if coupled else decay)


def best_horizon(
    curvatures: ArrayLike,
    learning_rate: ArrayLike,
    momentum: ArrayLike,
    *,
    s_max: ArrayLike = np.inf,
    method: str = "sgdm",
    weight_decay: ArrayLike = 0.0,
    coupled: bool = False,
) -> jax.Array:
    r"""The horizon with the smallest spectral radius over a spectrum.

    .. math:: s^* = \arg\min_{0 \le s \le s_{\max}} \max_i \rho(h_i, \gamma, s, \mu)

    For positive curvatures only the smallest and the largest count. For a single one
    :math:`s^* = \max(0, (\mu - (1 - \sqrt{a})^2) / a)`, critical damping, with
    :math:`\rho = |1 - \sqrt a|`.

    Args:
      curvatures: the eigenvalues h, ``[..., n]``; ``[h_min, h_max]`` for all between.
      learning_rate: γ >= 0, of the shape ``[...]`` or less.
      momentum: μ in [0, 1), likewise.
      s_max: largest horizon to consider, likewise; may be infinite.
      method: ``"sgdm"`` or ``"ema"``.
      weight_decay: λ >= 0, likewise.
      coupled: whether the decay is part of the gradient.

    Returns:
      s*, ``[...]``; the smallest if several are best. It is the least bad one where none is stable.

    Raises:
      TypeError: an argument is not a real number or array.
      ValueError: ``curvatures`` is empty, an argument is not finite or outside its range, or
        ``method`` is unknown.

    Examples:
      >>> s = best_horizon([0.5, 3.0], learning_rate=0.05, momentum=0.9)
      >>> round(float(s), 2)
      6.41
      >>> round(float(spectral_radius(0.5, 0.05, s, 0.9)), 2)  # s = 0: 0.95
      0.86
    """
    if np.ndim(curvatures) and not np.shape(curvatures)[-1]:
        raise ValueError("best_horizon needs at least one curvature, got an empty spectrum.")
    check(curvature=curvatures, learning_rate=learning_rate, momentum=momentum)
    check(s_max=s_max, weight_decay=weight_decay)
    (learning_rate, momentum, s_max, weight_decay) = (
        jnp.expand_dims(jnp.asarray(value), -1)
        for value in (learning_rate, momentum, s_max, weight_decay)
    )
    setting = (learning_rate, 0.0, momentum, method, weight_decay, coupled)
    terms = terms_of(jnp.atleast_1d(jnp.asarray(curvatures)), *setting)
    limit = jnp.broadcast_to(s_max.astype(terms.trace.dtype), terms.trace.shape)
    return bisect_radius(terms, limit)


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
) -> jax.Array:
    r"""The variance of θ around the minimum that gradient noise keeps up.

    .. math::
        \operatorname{Var} \theta
        = \frac{\eta^2 \sigma^2 (1 + D)}{(1 - D)(1 - T + D)(1 + T + D)}
        = \frac{\gamma^2 \sigma^2 (1 + \mu - s a)}
               {a\, (1 - \mu + s a)\, (2 (1 + \mu) - (1 + 2 s) a)}

    where every gradient has independent noise of variance σ², η is γ for ``"sgdm"`` and
    :math:`(1 - \mu) \gamma` for ``"ema"``, and the second form is that of ``"sgdm"`` without weight
    decay. It solves the discrete Lyapunov equation :math:`\Sigma = C \Sigma C^T + Q`.

    Args:
      curvature: h, see :func:`companion_matrix`.
      learning_rate: γ >= 0.
      s: the horizon in steps, >= 0.
      momentum: μ in [0, 1).
      noise_variance: σ² >= 0, the variance of a mini-batch's gradient in this direction.
      method: ``"sgdm"`` or ``"ema"``.
      weight_decay: λ >= 0.
      coupled: whether the decay is part of the gradient.

    Returns:
      Var θ, in the shape that the arguments broadcast to; infinity where the step is not stable.

    Raises:
      TypeError: an argument is not a real number or array.
      ValueError: an argument is not finite or outside its range, or ``method`` is unknown.

    Examples:
      >>> import jax.numpy as jnp
      >>> stationary_variance(1.0, learning_rate=0.1, s=jnp.array([0.0, 1.0, 4.0]), momentum=0.9)
      Array([0.513..., 0.257..., 0.103...], dtype=float32)

    References:
      For SGD: Mandt et al., `Stochastic Gradient Descent as Approximate Bayesian Inference
      <https://arxiv.org/abs/1704.04289>`_, 2017, section 3 (in continuous time).
    """
    (noise_variance,) = inputs(noise_variance=noise_variance)
    terms = terms_of(curvature, learning_rate, s, momentum, method, weight_decay, coupled)
    margins = (1 - terms.determinant, terms.drift, terms.flip)
    stable = (margins[0] > 0) & (margins[1] > 0) & (margins[2] > 0)
    product = jnp.where(stable, margins[0] * margins[1] * margins[2], 1)
    driven = terms.step**2 * noise_variance.astype(product.dtype)
    return jnp.where(stable, driven * (1 + terms.determinant) / product, jnp.inf)


def effective_horizon(s: ArrayLike, momentum: ArrayLike) -> jax.Array:
    r"""The s of the closed form that moves as far as the rollout of ``zero_gradient()``.

    .. math::
        s_{\text{eff}} = \sum_{k=1}^{s} \mu^k = \frac{\mu (1 - \mu^s)}{1 - \mu}

    for whole s, linear in between: with zero gradients the velocity shrinks by μ each step. It
    never exceeds :math:`\mu / (1 - \mu)`. Exact for momentum without weight decay, and for Adam
    up to its bias correction.

    Args:
      s: the horizon of the rollout in steps, >= 0.
      momentum: μ in [0, 1).

    Returns:
      s_eff, in the shape that the arguments broadcast to.

    Raises:
      TypeError: an argument is not a real number or array.
      ValueError: an argument is not finite or outside its range.

    Examples:
      >>> round(float(effective_horizon(1, momentum=0.9)), 4)  # Nesterov's method
      0.9
      >>> float(effective_horizon(2.5, momentum=0.5))  # 0.5 + 0.25 + half of 0.125
      0.8125
    """
    s, mu = inputs(s=s, momentum=momentum)
    whole = jnp.floor(s)
    return mu * (1 - mu**whole) / (1 - mu) + (s - whole) * mu ** (whole + 1)
