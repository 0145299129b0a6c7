"""``recalibrate_batch_stats`` of both APIs: the averages, and how exact they are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from tests.batch_stats import (
    BATCHES,
    BatchNorm,
    LinenBatchNorm,
    assert_averages,
    averages,
    forward,
    recalibrated_linen,
    stats,
    strict_numerics,  # noqa: F401  (a fixture)
)
from xgrad_optax import xgrad
from xgrad_optax.linen import recalibrate_batch_stats as recalibrate_linen
from xgrad_optax.nnx import base_weights, recalibrate_batch_stats

# --- the averages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_recalibrated_statistics_are_plain_averages_at_any_scale(momentum, scale):
    batches = scale * BATCHES
    norm = BatchNorm(momentum=momentum, rngs=nnx.Rngs(0))
    norm.mean[...] += 1e5  # what the statistics were does not matter
    recalibrate_batch_stats(norm, forward, iter(batches))
    assert_averages(stats(norm), batches)
    assert_averages(recalibrated_linen(LinenBatchNorm(momentum=momentum), batches), batches)


def test_momenta_may_differ_between_layers_and_within_one():
    class Mixed(linen.Module):
        @linen.compact
        def __call__(self, inputs):
            own = self.variable("batch_stats", "mean", lambda: jnp.zeros(3))
            momentum = jnp.array([0.0, 0.75, 0.99])
            own.value = momentum * own.value + (1 - momentum) * inputs.mean(0)
            hidden = LinenBatchNorm(momentum=0.5, name="first")(inputs)
            return LinenBatchNorm(momentum=0.99, name="second")(linen.Dense(3)(hidden))

    found = recalibrated_linen(Mixed(), BATCHES)
    np.testing.assert_allclose(found["mean"], averages(BATCHES)[0], rtol=1e-5)
    assert_averages(found["first"], BATCHES)
    normalized = (BATCHES - BATCHES.mean(1, keepdims=True)) / jnp.sqrt(
        BATCHES.var(1, keepdims=True) + 1e-5
    )
    kernel = Mixed().init(jax.random.key(0), BATCHES[0])["params"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(found["second"]["var"], averages(normalized @ kernel)[1], rtol=1e-4)


def test_recalibration_belongs_to_the_weights_it_ran_at():
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.hidden, self.norm = nnx.Linear(3, 3, rngs=rngs), BatchNorm(rngs=rngs)

        def __call__(self, inputs):
            return self.norm(self.hidden(inputs))

    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, xgrad(optax.sgd(0.1), 2), wrt=nnx.Param)
    grads = nnx.grad(lambda model: jnp.sum(model(BATCHES[0]) ** 3))(model)
    optimizer.update(model, grads)
    with base_weights(model, optimizer):
        recalibrate_batch_stats(model, forward, BATCHES)
        activations = model.hidden(BATCHES.reshape(-1, 3)).reshape(BATCHES.shape)
    assert_averages(stats(model.norm), activations, rtol=1e-4)


def test_layers_that_not_every_pass_calls():
    class Alternating(linen.Module):
        @linen.compact
        def __call__(self, batch):
            odd, inputs = batch
            LinenBatchNorm(use_running_average=True, name="frozen")(inputs)
            for name, called in (("odd", odd), ("even", not odd)):
                norm = LinenBatchNorm(name=name)
                if called or self.is_initializing():
                    norm(inputs)

    module = Alternating()
    variables = module.init(jax.random.key(0), (True, BATCHES[0]))
    found = recalibrate_linen(
        lambda v, batch: module.apply(v, batch, mutable=["batch_stats"]),
        variables,
        [(i % 2 == 1, batch) for i, batch in enumerate(BATCHES)],
    )
    assert_averages(found["odd"], BATCHES[1::2])
    assert_averages(found["even"], BATCHES[::2])
    jax.tree.map(np.testing.assert_array_equal, found["frozen"], variables["batch_stats"]["frozen"])


def test_layers_that_read_their_statistics_in_training():
    class Renormalized(nnx.Module):
        def __init__(self, rngs):
            self.mean = nnx.BatchStat(jnp.full(3, 1e3))
            self.var = nnx.BatchStat(jnp.full(3, 7.0))
            self.after = BatchNorm(rngs=rngs)

        def __call__(self, inputs):
            mean, var = inputs.mean(0), inputs.var(0)
            outputs = (inputs - self.mean[...]) / jnp.sqrt(self.var[...])
            self.mean[...] = 0.99 * self.mean[...] + (1 - 0.99) * mean
            self.var[...] = 0.99 * self.var[...] + (1 - 0.99) * var
            return self.after(outputs)

    model = Renormalized(nnx.Rngs(0))
    recalibrate_batch_stats(model, forward, BATCHES)
    assert_averages(stats(model), BATCHES, rtol=1e-5)
    assert np.all(np.abs(model.after.mean[...]) < 1)
    assert np.all(np.abs(model.after.var[...] - 1) < 1)


# --- low precision --------------------------------------------------------------------------------


def cast(tree, dtype):
    return jax.tree.map(lambda x: x.astype(dtype), tree)


@pytest.mark.parametrize(
    ("dtype", "momentum", "where"),
    [
        case
        for case in itertools.product(
            (jnp.bfloat16, jnp.float16), (0.9, 0.99, 0.999), ("kept", "written", "read")
        )
        if case != (jnp.bfloat16, 0.999, "read")  # that momentum is 1: the next test
    ],
)
def test_statistics_in_low_precision_are_rounded_once(dtype, momentum, where):
    module = LinenBatchNorm(momentum=momentum)
    variables = cast(module.init(jax.random.key(0), BATCHES[0]), dtype)

    @jax.jit
    def apply(variables, batch):
        variables = cast(variables, dtype) if where == "read" else variables
        outputs, updated = module.apply(variables, batch, mutable=["batch_stats"])
        return outputs, cast(updated, dtype) if where == "written" else updated

    found = recalibrate_linen(apply, variables, BATCHES)
    assert found["mean"].dtype == found["var"].dtype == dtype
    # Once when a batch's number is written, once at the end.
    assert_averages(found, BATCHES, rtol=float(jnp.finfo(dtype).eps))


def test_a_momentum_that_low_precision_rounds_to_1_is_none():
    module = LinenBatchNorm(momentum=0.999)
    variables = cast(module.init(jax.random.key(0), BATCHES[0]), jnp.bfloat16)

    def apply(variables, batch):
        return module.apply(cast(variables, jnp.bfloat16), batch, mutable=["batch_stats"])

    with pytest.raises(ValueError, match=r"no running means .*\['mean'\], \['var'\]"):
        recalibrate_linen(apply, variables, BATCHES)


def test_a_pass_that_insists_on_the_dtype_of_its_statistics_gets_it():
    module = LinenBatchNorm(momentum=0.99)
    variables = cast(module.init(jax.random.key(0), BATCHES[0]), jnp.bfloat16)

    def apply(variables, batch):
        if variables["batch_stats"]["mean"].dtype != jnp.bfloat16:
            raise TypeError("carry input and output must have equal types")
        outputs, updated = module.apply(variables, batch, mutable=["batch_stats"])
        return outputs, cast(updated, jnp.bfloat16)

    found = recalibrate_linen(apply, variables, BATCHES)
    assert_averages(found, BATCHES, rtol=float(jnp.finfo(jnp.bfloat16).eps))
