"""Several parameters, each of which is late by a delay of its own."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from xgrad_optax.stability._inputs import check, whole_delay
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
    check(hessian=hessian)
    shape = np.shape(hessian)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(f"hessian must be a square matrix [..., n, n], got shape {shape}.")
    late = [whole_delay(delay) for delay in delays]
    if len(late) != shape[-1]:
        raise ValueError(
            f"delays must have one entry for each of the {shape[-1]} parameters, got {len(late)}."
        )
    gamma, mu, decay = (
        jnp.asarray(value)[..., None] for value in (learning_rate, momentum, weight_decay)
    )
    # For a curvature of 1 a parameter has the coefficients that multiply its column of H.
    unit = parts_of(jnp.ones(shape[-1]), gamma, s, mu, method, decay, coupled)
    return largest_modulus(_block_companion(jnp.asarray(hessian), unit, late))


def _block_companion(hessian: jax.Array, unit: Parts, delays: Sequence[int]) -> jax.Array:
    """The matrix that takes the parameters of the last max(τ) + 2 steps one step further."""
    size, lags = len(delays), max(delays) + 2
    # [..., lags, n, n]: how θ_j of so many steps ago enters the next θ_i
    own = -jnp.moveaxis(unit.at_once[..., 1:], -1, -2)[..., None] * jnp.eye(size)
    blocks = jnp.pad(own, [*[(0, 0)] * (own.ndim - 3), (0, lags - 2), (0, 0), (0, 0)])
    for k in (0, 1):
        columns = hessian * unit.late[..., None, :, k]
        places = np.eye(lags)[:, np.add(delays, k)]
        blocks = blocks - columns[..., None, :, :] * places[:, None, :]
    top = jnp.moveaxis(blocks, -3, -2).reshape(*blocks.shape[:-3], size, lags * size)
    shift = jnp.eye((lags - 1) * size, lags * size, dtype=top.dtype)
    shift = jnp.broadcast_to(shift, (*top.shape[:-2], *shift.shape))
    return jnp.concatenate([top, shift], axis=-2)
