"""The quadratic model of coupled stages: the largest stable rate by their horizons."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.studies.pipeline.counts import delay
from xgrad_optax.stability import effective_horizon, stages_spectral_radius

MOMENTUM = 0.9
DELAYS = (delay(4, 0), delay(4, 3))
"""Of the first and of the last of four stages."""

HORIZONS = np.arange(0.0, 12.5)
"""Tried for each of the two stages."""

COUPLINGS = (0.0, 0.3, 0.5, 0.9)
"""c of four stages that are alike, H = (1 - c) I + c 11ᵀ."""

FOUND = {
    0.0: (6.0, 4.0, 2.0, 0.0),
    0.3: (4.0, 3.0, 3.0, 3.0),
    0.5: (5.0, 3.0, 5.0, 5.0),
    0.9: (1.0, 0.0, 1.0, 5.0),
}
"""By coupling the horizons of four stages that :func:`climbed` came to, from several beginnings."""

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


def alike(coupling: float, stages: int = 4) -> np.ndarray:
    """H of stages that are alike, ``[stages, stages]``, with a largest eigenvalue of 1."""
    matrix = (1 - coupling) * np.eye(stages) + coupling * np.ones((stages, stages))
    return matrix / (1 + (stages - 1) * coupling)


def stable_rates(
    hessian: np.ndarray, horizons: np.ndarray, delays: Sequence[int] = DELAYS
) -> np.ndarray:
    """Returns the largest rate below which all are stable, to 4 %.

    Args:
        hessian: ``[stages, stages]``.
        horizons: of the stages, ``[..., stages]``.
        delays: of the stages, by default those of the first and of the last of four.

    Returns:
        Rates, ``[...]``: the last of a grid before the first that is not stable.
    """
    radii = stages_spectral_radius(
        jnp.asarray(hessian, jnp.float32),
        jnp.asarray(_RATES, jnp.float32),
        jnp.asarray(horizons, jnp.float32)[..., None, :],
        MOMENTUM,
        delays,
    )
    stable = np.cumprod(np.asarray(radii) <= 1 + _ROUNDING, axis=-1).sum(axis=-1)
    return np.where(stable > 0, _RATES[np.maximum(stable - 1, 0)], 0.0)


def landscape(case: Case) -> np.ndarray:
    """Returns the largest stable rates by the horizon of the first stage and of the last."""
    return stable_rates(case.hessian, np.stack(np.meshgrid(HORIZONS, HORIZONS, indexing="ij"), -1))


def of_four(coupling: float) -> dict[str, float]:
    """Returns by rule the largest stable rate of four stages that are alike."""
    delays = [delay(4, stage) for stage in range(4)]
    each, longest = np.array(delays, float), float(delays[0])
    rules = {
        "none": 0 * each,
        "each its delay": each,
        "zero gradient, one further": np.array([effective_horizon(s + 1, MOMENTUM) for s in each]),
        "uniform": np.full(4, longest),
        "uniform zero gradient": np.full(4, effective_horizon(longest + 1, MOMENTUM)),
        "found": np.array(FOUND[coupling]),
    }
    rates = stable_rates(alike(coupling), np.stack(list(rules.values())), delays)
    return dict(zip(rules, map(float, rates), strict=True))


def climbed(hessian: np.ndarray, delays: Sequence[int], start: Sequence[float]) -> np.ndarray:
    """Returns the horizons that no step of 1 betters: of one stage, or of all of them.

    Args:
        hessian: ``[stages, stages]``.
        delays: of the stages.
        start: the horizons to begin with; steps of 2 come before those of 1.
    """
    here, number = np.array(start, float), len(delays)
    reached = stable_rates(hessian, here, delays)
    directions = np.concatenate([np.eye(number), np.ones((1, number))])
    for step in (2.0, 1.0):
        while True:
            near = np.maximum(here + step * np.concatenate([directions, -directions]), 0)
            rates = stable_rates(hessian, near, delays)
            if rates.max() <= reached:
                break
            here, reached = near[rates.argmax()], rates.max()
    return here
