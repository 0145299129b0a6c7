"""How fast the distance to the minimum shrinks: the matrix of a step and its radius."""

import jax
import jax.numpy as jnp

from xgrad_optax.stability._inputs import whole_delay
from xgrad_optax.stability._polynomial import companion, largest_modulus
from xgrad_optax.stability._recurrence import parts_of, terms_of

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
    delay: int = 0,
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

    A delay τ makes the recurrence one of order τ + 2, and the matrix that of

    .. math::
        P(z) = z^\tau (z - 1 + \gamma\lambda)(z - \mu) + a [(1 + s) z - (1 - \gamma\lambda) s]

    for decoupled decay; coupled decay, which is not late, adds :math:`\eta\lambda z^{\tau + 1}`
    instead. docs/late-gradients.md derives it.

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
      delay: τ, how many updates late each gradient is applied; a whole number, not traced.

    Returns:
      An array ``[..., τ+2, τ+2]``; the leading axes are those that the arguments broadcast to.

    Raises:
      TypeError: an argument is not a real number or array, or ``delay`` not a whole number.
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
    setting = (curvature, learning_rate, s, momentum, method, weight_decay, coupled)
    if delay := whole_delay(delay):
        return companion(parts_of(*setting).delayed(delay))
    terms = terms_of(*setting)
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
    delay: int = 0,
) -> jax.Array:
    r"""The factor by which the distance to the minimum shrinks each step, in the long run.

    .. math::
        \rho = \begin{cases}
            \sqrt{D} & T^2 < 4 D \text{ (the iterates spiral in or out)} \\
            \tfrac12 |T| + \sqrt{\tfrac14 T^2 - D} & \text{otherwise}
        \end{cases}

    with T and D of :func:`companion_matrix`. Stable means ρ < 1.

    With a delay it is the largest modulus of an eigenvalue, which XLA computes on CPUs and GPUs
    (there by LAPACK on the host, or cuSOLVER) but not on TPUs.

    Args:
      curvature: h, see :func:`companion_matrix`.
      learning_rate: γ >= 0.
      s: the horizon in steps, >= 0.
      momentum: μ in [0, 1).
      method: ``"sgdm"`` or ``"ema"``.
      weight_decay: λ >= 0.
      coupled: whether the decay is part of the gradient.
      delay: τ, how many updates late each gradient is applied; a whole number, not traced.

    Returns:
      ρ, in the shape that the arguments broadcast to.

    Raises:
      TypeError: an argument is not a real number or array, or ``delay`` not a whole number.
      ValueError: an argument is not finite or outside its range, or ``method`` is unknown.

    Examples:
      >>> import jax.numpy as jnp
      >>> round(float(spectral_radius(1.0, learning_rate=0.1, s=0, momentum=0.9)), 4)  # √0.9
      0.9487
      >>> spectral_radius(1.0, 0.1, jnp.array([1.0, 2.0, 4.0]), 0.9)  # √(0.9 - 0.1 s)
      Array([0.894..., 0.836..., 0.707...], dtype=float32)
      >>> late = spectral_radius(1.0, 0.2, jnp.array([0.0, 1.0, 2.0]), 0.9, delay=1)
      >>> [round(float(radius), 3) for radius in late]  # only prediction makes it stable
      [1.049, 0.97, 0.894]
    """
    setting = (curvature, learning_rate, s, momentum, method, weight_decay, coupled)
    if delay := whole_delay(delay):
        return largest_modulus(companion(parts_of(*setting).delayed(delay)))
    terms = terms_of(*setting)
    half = 0.5 * terms.trace
    discriminant = half**2 - terms.determinant
    spiral = discriminant < 0
    # Each root's argument is harmless where the other one counts, so that gradients are finite too.
    modulus = jnp.sqrt(jnp.where(spiral, terms.determinant, 1))
    largest = jnp.abs(half) + jnp.sqrt(jnp.where(spiral, 0, discriminant))
    return jnp.where(spiral, modulus, largest)
