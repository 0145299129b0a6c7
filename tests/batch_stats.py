"""Batches, normalizing layers and their averages, for tests of ``recalibrate_batch_stats``."""

import functools

import jax
import numpy as np
import pytest
from flax import linen, nnx

from xgrad_optax.linen import recalibrate_batch_stats as recalibrate_linen

BATCHES = 2.0 + jax.random.normal(jax.random.key(0), (4, 16, 3))
BatchNorm = functools.partial(nnx.BatchNorm, 3, use_running_average=False, use_fast_variance=False)
LinenBatchNorm = functools.partial(
    linen.BatchNorm, use_running_average=False, use_fast_variance=False
)


@pytest.fixture(autouse=True)
def strict_numerics():
    """Replaces the library tests' fixture: Flax promotes ranks and dtypes freely."""


@nnx.jit
def forward(model, batch):
    return model(batch)


def averages(activations):
    """Over batches, of means and variances; ``[batches, examples, features]``."""
    activations = np.asarray(activations, np.float64)
    return activations.mean(axis=1).mean(axis=0), activations.var(axis=1).mean(axis=0)


def assert_averages(norm, activations, rtol=1e-6):
    mean, var = averages(activations)
    np.testing.assert_allclose(np.asarray(norm["mean"], np.float64), mean, rtol=rtol)
    np.testing.assert_allclose(np.asarray(norm["var"], np.float64), var, rtol=rtol)


def stats(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def recalibrated_linen(module, batches, stats=None):
    """The new statistics of a Linen module, from ``stats`` if it is given."""
    variables = module.init(jax.random.key(0), batches[0])
    if stats is not None:
        variables = {**variables, "batch_stats": stats}
    apply = jax.jit(lambda v, batch: module.apply(v, batch, mutable=["batch_stats"]))
    return recalibrate_linen(apply, variables, batches)
