"""One test for all estimators: does the mean over many draws differ from the truth?"""

import math
import statistics

import jax
import numpy as np

# Every test together raises a false alarm with this probability. (Keys are fixed, so that a test
# that passes does so for ever; the level says how surprising a failure would be.)
LEVEL = 1e-4


def biased_leaves(estimates, exact, *, rounding=1e-6):
    """Leaves of which some entry's mean over the draws is significantly not the exact one.

    A z-test of each entry with Bonferroni's correction, so that one entry of one leaf is enough.

    Args:
      estimates: leaves ``[draws, ...]``.
      exact: a tree of leaves ``[...]``.
      rounding: error of arithmetic that is allowed, relative to the largest entry of the leaf.

    Returns:
      Key paths and the largest |z| of the biased leaves.
    """
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(exact))
    critical = statistics.NormalDist().inv_cdf(1 - LEVEL / (2 * count))
    found = {}
    for (path, want), draws in zip(
        jax.tree_util.tree_leaves_with_path(exact), jax.tree.leaves(estimates), strict=True
    ):
        want, draws = np.asarray(want, float), np.asarray(draws, float)
        assert draws.shape[1:] == want.shape
        error = np.abs(draws.mean(0) - want)
        standard_error = draws.std(0, ddof=1) / math.sqrt(len(draws))
        allowed = critical * standard_error + rounding * np.max(np.abs(want), initial=1e-30)
        if not np.all(error <= allowed):
            worst = np.max(error / np.where(standard_error > 0, standard_error, 1e-30))
            found[jax.tree_util.keystr(path)] = float(worst)
    return found


def total_variance(estimates):
    """The sample variance, summed over all entries of all leaves."""
    return sum(np.asarray(x, float).var(0, ddof=1).sum() for x in jax.tree.leaves(estimates))
