"""The quadratic model of two coupled stages: the largest stable rate by their horizons."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.studies.pipeline.counts import delay
from xgrad_optax.stability import stages_spectral_radius

MOMENTUM = 0.9
DELAYS = (delay(4, 0), delay(4, 3))
"""Of the first and of the last of four stages."""

HORIZONS = np.arange(0.0, 12.5)
"""Tried for each of the two stages."""

_RATES = np.geomspace(0.01, 4.0, 160)
_ROUNDING = 1e-3  # of eigenvalues in float32, where two of them meet


class Case(NamedTuple):
    """A loss ½θᵀHθ of two parameters, H = [[1, c√r], [c√r, r]] scaled to a largest eigenvalue of 1.

    Attributes:
        title: what it is called.
        coupling: c, from 0 to 1.
        ratio: r, the curvature of the last stage where that of the first is 1.
    """

    title: str
    coupling: float
    ratio: float

    @property
    def hessian(self) -> np.ndarray:
        """H."""
        across = self.coupling * self.ratio**0.5
        matrix = np.array([[1.0, across], [across, self.ratio]])
        return matrix / np.linalg.eigvalsh(matrix).max()


CASES = (
    Case("apart", 0.0, 1.0),
    Case("coupled, c = 0.5", 0.5, 1.0),
    Case("coupled, c = 0.9", 0.9, 1.0),
    Case("c = 0.5, last stage 30 times as curved", 0.5, 30.0),
)


def stable_rates(hessian: np.ndarray, horizons: np.ndarray) -> np.ndarray:
    """Returns the largest rate below which all are stable, to 4 %.

    Args:
        hessian: ``[2, 2]``.
        horizons: of the first and of the last stage, ``[..., 2]``.

    Returns:
        Rates, ``[...]``: the last of a grid before the first that is not stable.
    """
    radii = stages_spectral_radius(
        jnp.asarray(hessian, jnp.float32),
        jnp.asarray(_RATES, jnp.float32),
        jnp.asarray(horizons, jnp.float32)[..., None, :],
        MOMENTUM,
        DELAYS,
    )
    stable = np.cumprod(np.asarray(radii) <= 1 + _ROUNDING, axis=-1).sum(axis=-1)
    return np.where(stable > 0, _RATES[np.maximum(stable - 1, 0)], 0.0)


def landscape(case: Case) -> np.ndarray:
    """Returns the largest stable rates by the horizon of the first stage and of the last."""
    return stable_rates(case.hessian, np.stack(np.meshgrid(HORIZONS, HORIZONS, indexing="ij"), -1))
