"""Several parameters, each of which is late by a delay of its own."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from xgrad_optax.stability._inputs import inputs, whole_delay
from xgrad_optax.stability._polynomial import largest_modulus
from xgrad_optax.stability._recurrence import Parts, parts_of

ArrayLike = jax.typing.ArrayLike


def stages_spectral_radius(
    hessian: ArrayLike,
    learning_rate: ArrayLike,
    s: ArrayLike,
    momentum: ArrayLike,
    delays: Sequence[int],
    *,
    method: str = "sgdm",
    weight_decay: ArrayLike = 0.0,
    coupled: bool = False,
) -> jax.Array:
    r"""The spectral radius of a pipeline: parameters with delays and horizons of their own.

    On :math:`f(\theta) = \tfrac12 \theta^\top H \theta` parameter i is updated by

    .. math::
        v_{i,t+1} = \mu v_{i,t} + \sum_j H_{ij} \hat\theta_{j,t-\tau_j}, \qquad
        \hat\theta_{j,t} = \theta_{j,t} - s_j \gamma v_{j,t}

    as in an asynchronous pipeline, whose stages have made different numbers of updates since a
    mini-batch met them. Gradients of one point that wait in queues of different lengths,
    :math:`\hat\theta_{j,t-\tau_i}` in place of :math:`\hat\theta_{j,t-\tau_j}`, have the same
    spectrum. With H diagonal the radius is the largest :func:`spectral_radius` of the parameters.

    Args:
      hessian: H, ``[..., n, n]``.
      learning_rate: γ >= 0, of the shape ``[...]`` or less.
      s: the horizons in steps, >= 0: one number, or one for each parameter, ``[..., n]``.
      momentum: μ in [0, 1), of the shape ``[...]`` or less.
      delays: τ, one whole number for each parameter.
      method: ``"sgdm"`` or ``"ema"``.
      weight_decay: λ >= 0, of the shape ``[...]`` or less.
      coupled: whether the decay is part of the gradient.

    Returns:
      The largest modulus of an eigenvalue of the whole system, ``[...]``, computed on a CPU or a
      GPU, as by :func:`spectral_radius`.

    Raises:
      TypeError: an argument is not a real number or array, or a delay not a whole number.
      ValueError: ``hessian`` is not square, ``delays`` has another length, an argument is not
        finite or outside its range, or ``method`` is unknown.

    Examples:
      >>> import jax.numpy as jnp
      >>> hessian = jnp.array([[1.0, 0.9], [0.9, 1.0]])
      >>> each = stages_spectral_radius(hessian, 0.05, jnp.array([0.0, 4.0]), 0.9, delays=[0, 4])
      >>> uniform = stages_spectral_radius(hessian, 0.05, 4, 0.9, delays=[0, 4])
      >>> round(float(each), 2), round(float(uniform), 2)  # the stage in time needs damping too
      (1.02, 0.94)
    """
    (H,) = inputs(hessian=hessian)
    if H.ndim < 2 or H.shape[-1] != H.shape[-2]:
        raise ValueError(f"hessian must be a square matrix [..., n, n], got shape {H.shape}.")
    late = [whole_delay(delay) for delay in delays]
    if len(late) != H.shape[-1]:
        raise ValueError(
            f"delays must have one entry for each of the {H.shape[-1]} parameters, got {len(late)}."
        )
    gamma, mu, decay = (
        jnp.asarray(value)[..., None] for value in (learning_rate, momentum, weight_decay)
    )
    # For a curvature of 1 a parameter has the coefficients that multiply its column of H.
    unit = parts_of(jnp.ones(len(late), H.dtype), gamma, s, mu, method, decay, coupled)
    return largest_modulus(_block_companion(H, unit, late))


def _block_companion(hessian: jax.Array, unit: Parts, delays: Sequence[int]) -> jax.Array:
    """The matrix that takes the parameters of the last max(τ) + 2 steps one step further."""
    size, lags = len(delays), max(delays) + 2
    batch = jnp.broadcast_shapes(hessian.shape[:-2], unit.late.shape[:-2])
    hessian, at_once, late = (
        jnp.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (hessian, *unit)
    )
    # [..., i, lag, j]: how θ_j of so many steps ago enters the next θ_i
    blocks = jnp.zeros((*batch, size, lags, size), late.dtype)
    for j, delay in enumerate(delays):
        blocks = blocks.at[..., j, :2, j].add(-at_once[..., j, 1:])
        columns = hessian[..., :, j, None] * late[..., None, j, :]
        blocks = blocks.at[..., :, delay : delay + 2, j].add(-columns)
    top = blocks.reshape(*batch, size, lags * size)
    shift = jnp.eye((lags - 1) * size, lags * size, dtype=top.dtype)
    shift = jnp.broadcast_to(shift, (*batch, *shift.shape))
    return jnp.concatenate([top, shift], axis=-2)
