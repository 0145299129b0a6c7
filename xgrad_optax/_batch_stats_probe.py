"""Which batch statistics are running means m·old + (1-m)·found, and what 1 - m is.

Forward passes over numbers of our choice are all that is asked of a model. The arithmetic on what
they write is in NumPy's double precision, so that only the passes round.
"""

from collections.abc import Callable, Iterable, Set
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from xgrad_optax._typing import PyTree

Values = dict[int, np.ndarray]  # by the number of the leaf, in double precision

# How much larger than what is found the numbers are that reveal m: so large that float32 does not
# see what is found, and that it does not matter if random numbers differ between passes.
_LARGE = 2.0**24
# How exactly large numbers must come back as m times themselves; bfloat16 keeps 8 bits.
_LINEAR = 2.0**-6
# A relative change that float32 sees, and float16 and bfloat16 do not.
_FINE = 2.0**-18
# What the measured m may be off by: rounded once by the layer and once by the pass.
_M_ERROR = 2.0**-22


class Passes:
    """Forward passes over given statistics; leaves that are not given keep their own values.

    Statistics in low precision are handed over as float32, in which a layer then computes and
    writes. A model that does not take them so gets them in their own dtype.

    Args:
      update: ``(stats, batch, again) ->`` what the forward pass writes over ``stats``.
      stats: the statistics as they are.

    Attributes:
      paths: the key path of each leaf.
      numbers: which leaves are arrays of floating-point numbers; the others are left alone.
      own: the values of these as they are.
    """

    def __init__(self, update: Callable[[PyTree, Any, bool], PyTree], stats: PyTree):
        self._update = update
        paths_and_leaves, self._structure = jax.tree_util.tree_flatten_with_path(stats)
        self.paths = [path for path, _ in paths_and_leaves]
        self._leaves = [leaf for _, leaf in paths_and_leaves]
        self.numbers = [i for i, x in enumerate(self._leaves) if _is_float(x)]
        self.own = {i: _double(self._leaves[i]) for i in self.numbers}
        self._dtypes = {i: _at_least_float32(self._leaves[i].dtype) for i in self.numbers}
        self._written_dtypes: dict[int, Any] = {}
        self._batch: Any = None
        self._again = False

    def begin(self, batch: Any) -> None:
        """The passes that follow run on this batch."""
        self._batch, self._again = batch, False

    def run(self, values: Values) -> Values:
        """What a pass writes where ``values`` stand in place of the leaves' own."""
        try:
            written = self._run(values)
        except Exception:
            widened = [i for i in self.numbers if self._dtypes[i] != self._leaves[i].dtype]
            if self._written_dtypes or not widened:
                raise
            self._dtypes |= {i: self._leaves[i].dtype for i in widened}
            written = self._run(values)
        self._written_dtypes = {i: written[i].dtype for i in self.numbers}
        return {i: _double(written[i]) for i in self.numbers}

    def _run(self, values: Values) -> list[Any]:
        leaves = list(self._leaves)
        for i in self.numbers:
            given = values.get(i, self.own[i])
            leaves[i] = _like(leaves[i], given, self._dtypes[i])
        stats = jax.tree.unflatten(self._structure, leaves)
        again, self._again = self._again, True
        found = dict(jax.tree_util.tree_leaves_with_path(self._update(stats, self._batch, again)))
        return [found.get(path, leaf) for path, leaf in zip(self.paths, leaves, strict=True)]

    def representable(self, i: int, value: np.ndarray) -> np.ndarray:
        """``value`` as a pass gets it."""
        return _double(value.astype(self._dtypes[i]))

    def mark(self, i: int) -> float:
        """Almost nothing: added to what is found it is lost, and unwritten it is still there."""
        return max(2.0**-100, *(float(jnp.finfo(dtype).tiny) for dtype in self._all_dtypes(i)))

    def largest(self, i: int) -> float:
        """A power of 2 that may safely be handed over and written, several times over."""
        return _power_of_2(min(float(jnp.finfo(dtype).max) for dtype in self._all_dtypes(i)) / 16)

    def _all_dtypes(self, i: int) -> tuple[Any, ...]:
        return self._leaves[i].dtype, self._dtypes[i], self._written_dtypes[i]

    def replaced(self, values: Values) -> PyTree:
        """The statistics with these values in place of their own, in their own dtypes."""
        leaves = list(self._leaves)
        for i, value in values.items():
            leaves[i] = _like(leaves[i], value, leaves[i].dtype)
        return jax.tree.unflatten(self._structure, leaves)


class RunningMean(NamedTuple):
    """What the passes reveal about one running mean.

    Attributes:
      weight: 1 - m, like the leaf.
      found: what the pass found, like the leaf.
      rounded: whether it is written with fewer digits than float32 has.
    """

    weight: np.ndarray
    found: np.ndarray
    rounded: bool


def running_means(passes: Passes, leaves: Set[int]) -> tuple[dict[int, RunningMean], set[int]]:
    """The running means among ``leaves``, and the leaves that the pass did not touch."""
    means: dict[int, RunningMean] = {}
    untouched: set[int] = set()
    for group in _linear_groups(passes, leaves):
        written, weights, rounded = _measured_weights(passes, group)
        for i, weight in weights.items():
            if np.all(weight > 0):
                means[i] = RunningMean(weight, written[i] / weight, i in rounded)
            elif not weight.any() and not written[i].any():
                untouched.add(i)
    return means, untouched


def _linear_groups(passes: Passes, leaves: Set[int]) -> list[set[int]]:
    """The leaves over which is written m·old + constant, 0 <= m <= 1, while the others stand still.

    All are moved at once. A leaf that is read in the pass can spoil what is found for others, so
    those that fail are tried again, in halves. Leaves of one group do not spoil one another.
    """
    found = passes.run({i: np.zeros_like(passes.own[i]) for i in leaves})
    small = _large_numbers(passes, found, leaves)
    # Not the same multiple in any two leaves: else one that is a copy of another would pass.
    large = {i: passes.representable(i, -x * (2 + i * 0.618 % 1)) for i, x in small.items()}
    over_small, over_large = passes.run(small), passes.run(large)
    linear = {
        i for i in leaves if _is_linear(found[i], small[i], over_small[i], large[i], over_large[i])
    }
    failed = sorted(leaves - linear)
    if linear and failed:
        return [linear, *_linear_groups(passes, set(failed))]
    if len(failed) > 1:
        half = len(failed) // 2
        return _linear_groups(passes, set(failed[:half])) + _linear_groups(
            passes, set(failed[half:])
        )
    return [linear] if linear else []


def _is_linear(
    found: np.ndarray, x: np.ndarray, over_x: np.ndarray, y: np.ndarray, over_y: np.ndarray
) -> bool:
    with np.errstate(invalid="ignore"):  # a pass that this leaf breaks writes NaN: not linear
        m = (over_x - found) / x
        error = np.abs(over_y - (found + m * y))
        linear = error <= _LINEAR * (np.abs(m * y) + np.abs(found))
        return bool(np.all(linear & (np.abs(m - 0.5) <= 0.5 + _LINEAR)))


def _large_numbers(passes: Passes, found: Values, leaves: Iterable[int]) -> Values:
    """One power of 2 for each leaf, ``_LARGE`` times what is found there, or 1."""
    sizes = {i: float(np.max(np.abs(found[i]), initial=0.0)) for i in leaves}
    numbers = {
        i: min(_power_of_2(_LARGE * size), passes.largest(i)) if 0 < size < np.inf else 1.0
        for i, size in sizes.items()
    }
    return {i: np.full_like(found[i], number) for i, number in numbers.items()}


def _measured_weights(passes: Passes, leaves: Set[int]) -> tuple[Values, Values, set[int]]:
    """What is written over 0, 1 - m, and which leaves are written with few digits."""
    found = passes.run({i: np.zeros_like(passes.own[i]) for i in leaves})
    x = _large_numbers(passes, found, leaves)
    over_x = passes.run(x)
    nearby = passes.run({i: passes.representable(i, x[i] * (1 + _FINE)) for i in leaves})
    moved = {i: over_x[i] != found[i] for i in leaves}
    rounded = {i for i in leaves if np.any(moved[i] & (nearby[i] == over_x[i]))}
    m = {i: (over_x[i] - found[i]) / x[i] for i in leaves}
    error = {i: np.full_like(m[i], _M_ERROR) for i in leaves}
    if rounded:
        for i, (threshold, midpoint) in _thresholds(passes, x, over_x, rounded).items():
            coarse = _input_rounding(threshold / x[i])
            m[i] = np.where(coarse > 0, m[i], (midpoint - found[i]) / threshold)
            error[i] = np.maximum(error[i], coarse * m[i])
    weights = {i: _shortest_decimal(1.0 - m[i].real, error[i].real) for i in leaves}
    return found, weights, rounded


def _thresholds(
    passes: Passes, x: Values, over_x: Values, leaves: Set[int]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Where above ``x`` the next number is written, and the middle between the two numbers.

    Exactly there m·old crosses the middle, so m is known to float32 precision from numbers that are
    written in bfloat16. Found by bisection, in all leaves at once.
    """
    low = {i: x[i] for i in leaves}
    high = {i: x[i] * (1 + 2.0**-6) for i in leaves}
    over_high = passes.run({**x, **high})
    for _ in range(20):
        middle = {i: passes.representable(i, (low[i] + high[i]) / 2) for i in leaves}
        written = passes.run({**x, **middle})
        for i in leaves:
            below = written[i] == over_x[i]
            low[i] = np.where(below, middle[i], low[i])
            high[i] = np.where(below, high[i], middle[i])
            over_high[i] = np.where(below, over_high[i], written[i])
    return {i: ((low[i] + high[i]) / 2, (over_x[i] + over_high[i]) / 2) for i in leaves}


def _input_rounding(threshold: np.ndarray) -> np.ndarray:
    """The relative error of numbers that are rounded before the layer computes; 0 if they are not.

    Such a layer sees ``threshold``, in units of a power of 2, at the middle between two numbers of
    float16 or bfloat16. It has rounded m, too, but not what it computes 1 - m from.
    """
    error = np.zeros_like(threshold)
    for bits in (11, 8):
        steps = (threshold - 1) * 2.0**bits
        odd = np.abs(steps - np.round(steps)) < 2.0**-6
        error = np.where(odd & (np.round(steps) % 2 == 1), 2.0**-bits / 2, error)
    return error


def _shortest_decimal(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """The number with the fewest decimals that is as near as ``error``.

    A layer computes 1 - m from the number that somebody wrote, not from its float32.
    """
    nearest = value
    for decimals in range(8, -1, -1):
        rounded = np.round(value, decimals)
        nearest = np.where(np.abs(rounded - value) <= error, rounded, nearest)
    return nearest


def _is_float(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact)


def _at_least_float32(dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.float32)


def _double(x: Any) -> np.ndarray:
    array = np.asarray(x)
    return array.astype(
        np.promote_types(np.float64, array.dtype) if array.dtype.kind == "c" else np.float64
    )


def _like(leaf: Any, value: np.ndarray, dtype: Any) -> Any:
    """``value`` in this dtype, where ``leaf`` lies."""
    array = np.asarray(value).astype(dtype)
    return jax.device_put(array, leaf.sharding) if isinstance(leaf, jax.Array) else array


def _power_of_2(value: float) -> float:
    return float(2.0 ** np.floor(np.log2(value)))
