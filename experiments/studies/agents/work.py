"""Chooses the rate of an arm on the tuning seeds, then trains the reported ones."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.progress import Progress
from experiments.studies.agents.ask import Config, Record, score_of
from experiments.studies.agents.environments import load_environment
from experiments.studies.agents.learn import Learnt, make_training
from experiments.tuning import REPORTED, around, tuned_and_reported


class Run(NamedTuple):
    """One training.

    Attributes:
        seed: the seed.
        rate: the learning rate.
    """

    seed: int
    rate: float


def prepare(config: Config, progress: Progress) -> Callable[[str], list[Record]]:
    """Loads the environment; returns what tunes and trains an arm."""
    environment = load_environment(config.environment)

    def records_of(arm: str) -> list[Record]:
        return Arm(config, arm, make_training(config, environment, arm)).records(progress)

    return records_of


class Arm:
    """Tunes and trains one arm."""

    def __init__(
        self, config: Config, name: str, train: Callable[[jax.Array, jax.Array], Learnt]
    ) -> None:
        """Takes what trains so many runs as are trained at once."""
        self._config, self._name, self._train = config, name, train

    def records(self, progress: Progress) -> list[Record]:
        """Returns a record of each rate that was tried, and that of the best."""
        grid = around(0, self._config.rates)
        return tuned_and_reported(
            self._trained,
            lambda record: score_of(record, self._config),
            grid,
            self._config.most_rates,
            progress.within,
        )

    def _trained(self, rate: int, purpose: str) -> Record:
        config = self._config
        seeds = config.seeds if purpose == REPORTED else config.tuning_seeds
        learning_rate = config.usual_rate * 2.0**rate
        curves, diverged = self._curves([Run(seed, learning_rate) for seed in seeds])
        last = -(-config.updates // 10)
        return Record(
            arm=self._name,
            purpose=purpose,
            learning_rate=learning_rate,
            seeds=list(seeds),
            area=_short(curves.mean(axis=1)),
            final=_short(curves[:, -last:].mean(axis=1)),
            diverged=diverged.tolist(),
            curve=[_short(curve) for curve in curves] if purpose == REPORTED else [],
        )

    def _curves(self, runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
        """Mean returns, ``[runs, updates]``, and whether weights ended not finite, ``[runs]``."""
        size = self._config.at_once
        # The last group is filled up: one compiled program trains them all.
        filled = [*runs, *itertools.repeat(runs[-1], -len(runs) % size)]
        groups = [filled[first : first + size] for first in range(0, len(filled), size)]
        found = [jax.device_get(self._train(*map(jnp.array, zip(*g, strict=True)))) for g in groups]
        curves = np.concatenate([each.returns for each in found])[: len(runs)].astype(float)
        finite = np.concatenate([_finite(each.params, size) for each in found])[: len(runs)]
        return curves, ~finite


def _finite(params: Any, runs: int) -> np.ndarray:
    """Whether all weights of a run are finite, ``[runs]``."""
    leaves = [np.isfinite(leaf).reshape(runs, -1).all(axis=1) for leaf in jax.tree.leaves(params)]
    return np.all(leaves, axis=0)


def _short(values: Iterable[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
