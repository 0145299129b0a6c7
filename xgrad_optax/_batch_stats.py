"""Normalization statistics measured anew: the average over batches at weights that stand still.

A running mean is a number for which a forward pass writes m·old + (1-m)·found. What a pass writes
over numbers of our choice tells which leaves are running means, and m, whatever the layer calls it:
:mod:`xgrad_optax._batch_stats_probe` finds that out on the first batch. Then one pass for each
batch, over almost nothing, gives (1-m)·found without cancellation, whatever the scale.
"""

import dataclasses
from collections.abc import Callable, Iterable, Set
from typing import Any

import jax
import numpy as np

from xgrad_optax._batch_stats_probe import Passes, RunningMean, Values, running_means
from xgrad_optax._typing import PyTree

# Whether what two passes found agrees; statistics in low precision are written with 3 digits.
_AGREEMENT = 2.0**-6


def averaged_batch_stats(
    update: Callable[[PyTree, Any, bool], PyTree], stats: PyTree, batches: Iterable[Any]
) -> PyTree:
    """The plain average of what a training-mode forward pass finds in each batch.

    Args:
      update: ``(stats, batch, again) ->`` the statistics that the forward pass writes over
        ``stats``; ``again`` says that the batch, and any random numbers, are those of the pass
        before.
      stats: the statistics as they are.
      batches: the batches, at least one.

    Returns:
      The statistics with averages in place of the running means. What is none, and what no forward
      pass updates, is as before.

    Raises:
      ValueError: there are no statistics, no batches, or no running mean that is updated.
    """
    if not jax.tree.leaves(stats):
        raise ValueError("The model has no batch statistics: there is nothing to recalibrate.")
    passes = Passes(update, stats)
    averages: dict[int, _Average] = {}
    undecided = set(passes.numbers)
    number = 0
    for number, batch in enumerate(batches, 1):
        passes.begin(batch)
        written = passes.run(_handed(averages))
        new = {i for i in undecided if number == 1 or np.any(written[i] != passes.own[i])}
        if new:
            undecided -= new
            means, untouched = running_means(passes, new)
            undecided |= untouched
            averages |= _new_averages(passes, means, written)
            written = passes.run(_handed(averages))
        for i, average in averages.items():
            average.add(written[i])
    if not number:
        raise ValueError("recalibrate_batch_stats needs at least one batch, got none.")
    averages = {i: a for i, a in averages.items() if not _is_derived(i, passes, averages)}
    if not averages:
        raise ValueError(_nothing_left(passes, undecided))
    return passes.replaced({i: average.value() for i, average in averages.items()})


@dataclasses.dataclass
class _Average:
    """The average of what the passes find for one leaf, in double precision.

    Attributes:
      mean: what is known of the running mean.
      handed: what the passes find in place of the statistic, like the leaf.
      total: sum of what they found.
      number: how many passes updated the leaf.
      first: what the first of them found.
      constant: whether all of them found the same.
    """

    mean: RunningMean
    handed: np.ndarray
    total: Any = 0.0
    number: int = 0
    first: Any = None
    constant: bool = True

    def found(self, written: np.ndarray) -> np.ndarray:
        weight = self.mean.weight
        return (written - (1.0 - weight) * self.handed) / weight

    def add(self, written: np.ndarray) -> None:
        if self.number and np.array_equal(written, self.handed):
            return  # the layer was not called
        found = self.found(written)
        self.first = found if self.first is None else self.first
        self.constant = self.constant and np.array_equal(self.first, found)
        self.total = self.total + found
        self.number += 1

    def value(self) -> np.ndarray:
        return self.total / self.number


def _handed(averages: dict[int, _Average]) -> Values:
    return {i: average.handed for i, average in averages.items()}


def _new_averages(
    passes: Passes, means: dict[int, RunningMean], written_over_own: Values
) -> dict[int, _Average]:
    """Averages that hand almost nothing to the passes, unless the forward pass reads it."""
    averages = {
        i: _Average(mean, np.full_like(passes.own[i], passes.mark(i))) for i, mean in means.items()
    }
    written = passes.run(_handed(averages))
    exact = [i for i, mean in means.items() if not mean.rounded]
    if all(
        _finds_the_same(averages[i], passes.own[i], written_over_own[i], written[i]) for i in exact
    ):
        return averages
    # Batch renormalization, for example, reads its statistics: let it read likely ones.
    for i in exact:
        averages[i].handed = passes.representable(i, means[i].found)
    return averages


def _finds_the_same(
    average: _Average, own: np.ndarray, over_own: np.ndarray, over_handed: np.ndarray
) -> bool:
    weight = average.mean.weight
    with np.errstate(invalid="ignore"):
        found = weight * average.found(over_handed)
        difference = np.abs(over_own - (1.0 - weight) * own - found)
        return bool(np.all(difference <= _AGREEMENT * (weight * np.abs(own) + np.abs(found))))


def _is_derived(i: int, passes: Passes, averages: dict[int, _Average]) -> bool:
    """Whether a leaf is computed from the weights and a neighbour, as sigma of spectral norm is.

    It is written over whatever it was, like a mean with m = 0. But it is the same in all batches,
    and it lies beside a number that is no running mean.
    """
    overwritten = bool(np.all(averages[i].mean.weight == 1.0))
    neighbours = (j for j in passes.numbers if passes.paths[j][:-1] == passes.paths[i][:-1])
    return overwritten and averages[i].constant and any(j not in averages for j in neighbours)


def _nothing_left(passes: Passes, untouched: Set[int]) -> str:
    """Why nothing was measured."""
    others = [i for i in range(len(passes.paths)) if i not in untouched]
    skipped = (
        " Left alone, being no running means m·old + (1-m)·found with 0 <= m < 1:"
        f" {_names(passes, others)}."
        if others
        else ""
    )
    if untouched:
        return (
            "The forward pass did not update the batch statistics"
            f" {_names(passes, sorted(untouched))}. Run the model in training mode, with"
            f" use_running_average=False.{skipped}"
        )
    return f"There is nothing to recalibrate among the batch statistics.{skipped}"


def _names(passes: Passes, leaves: Iterable[int]) -> str:
    return ", ".join(jax.tree_util.keystr(passes.paths[i]) for i in leaves)
