"""``recalibrate_batch_stats`` of both APIs: what it leaves alone, and mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import core, linen, nnx

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
from xgrad_optax.linen import recalibrate_batch_stats as recalibrate_linen
from xgrad_optax.nnx import recalibrate_batch_stats


class Spectral(nnx.Module):
    def __init__(self, rngs, features):
        self.spectral = nnx.SpectralNorm(nnx.Linear(3, features, rngs=rngs), rngs=rngs)
        self.norm = nnx.BatchNorm(features, use_running_average=False, rngs=rngs)

    def __call__(self, inputs):
        hidden = self.spectral(inputs)
        self.norm(hidden)
        return hidden


@pytest.mark.parametrize("features", [1, 4])
@pytest.mark.parametrize(
    "batches", [BATCHES, BATCHES[:1], jnp.ones((2, 16, 3))], ids=["several", "one", "equal"]
)
def test_spectral_norm_is_left_alone_and_usable(features, batches):
    model = Spectral(nnx.Rngs(0), features)
    for batch in BATCHES:
        forward(model, batch)
    before, hidden = nnx.clone(model), [forward(nnx.clone(model), batch) for batch in batches]
    recalibrate_batch_stats(model, forward, batches)
    jax.tree.map(np.testing.assert_array_equal, stats(model.spectral), stats(before.spectral))
    jax.tree.map(
        np.testing.assert_array_equal, nnx.state(model, nnx.Param), nnx.state(before, nnx.Param)
    )
    np.testing.assert_allclose(
        model.norm.mean[...], averages(jnp.stack(hidden))[0], rtol=1e-5, atol=1e-6
    )


def test_linen_spectral_norm_is_left_alone():
    class Network(linen.Module):
        @linen.compact
        def __call__(self, inputs):
            hidden = linen.SpectralNorm(linen.Dense(3))(inputs, update_stats=True)
            return LinenBatchNorm(name="norm")(hidden)

    module = Network()
    start = module.init(jax.random.key(0), BATCHES[0])["batch_stats"]
    found = recalibrated_linen(module, BATCHES)
    jax.tree.map(np.testing.assert_array_equal, found["SpectralNorm_0"], start["SpectralNorm_0"])
    assert not np.array_equal(found["norm"]["mean"], start["norm"]["mean"])


class Miscellany(nnx.Module):
    """A running mean among numbers of other kinds, some of which the pass reads."""

    def __init__(self, rngs):
        self.norm, self.dropout = BatchNorm(rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.after_dropout = BatchNorm(rngs=rngs)
        self.seen = nnx.BatchStat(jnp.int32(3))
        self.seen_as_float = nnx.BatchStat(jnp.float32(3))
        self.largest = nnx.BatchStat(jnp.zeros(3))
        self.started = nnx.BatchStat(jnp.array(False))
        self.key = nnx.BatchStat(jax.random.key(0))
        self.fragile = nnx.BatchStat(jnp.ones(2))
        self.cumulative = nnx.BatchStat(jnp.zeros(3))

    def __call__(self, inputs):
        self.seen[...] += 1
        self.seen_as_float[...] += 1
        self.largest[...] = jnp.maximum(self.largest[...], inputs.max(0))
        self.started[...] = jnp.array(True)
        self.key[...] = jax.random.split(self.key[...])[0]
        self.cumulative[...] += (inputs.mean(0) - self.cumulative[...]) / self.seen[...]
        self.fragile[...] = self.fragile[...] / jnp.sum(self.fragile[...])  # NaN over zeros
        inputs = inputs * jnp.sum(self.fragile[...])
        return self.after_dropout(self.dropout(inputs)), self.norm(inputs)


def test_other_kinds_of_numbers_are_left_alone_and_keep_valid_values():
    model = Miscellany(nnx.Rngs(0))
    before = nnx.to_flat_state(nnx.state(nnx.clone(model)))
    recalibrate_batch_stats(model, forward, BATCHES)
    after = dict(nnx.to_flat_state(nnx.state(model)))
    changed = {path[0] for path, value in before if np.any(after[path][...] != value[...])}
    assert changed == {"norm", "after_dropout", "cumulative"}
    assert_averages(stats(model.norm), BATCHES)
    np.testing.assert_allclose(model.cumulative[...], averages(BATCHES)[0], rtol=1e-6)
    np.testing.assert_allclose(model.after_dropout.mean[...], averages(BATCHES)[0], rtol=0.3)


def test_passes_with_other_random_numbers_each():
    noises = iter(1e-2 * jax.random.normal(jax.random.key(1), (20, *BATCHES[0].shape)))
    module = LinenBatchNorm(momentum=0.9)
    apply = jax.jit(lambda v, batch: module.apply(v, batch, mutable=["batch_stats"]))
    variables = module.init(jax.random.key(0), BATCHES[0])
    found = recalibrate_linen(lambda v, batch: apply(v, batch + next(noises)), variables, BATCHES)
    assert_averages(found, BATCHES, rtol=1e-2)


def test_raw_values_of_statistics_that_change_on_reading():
    class Halved(nnx.BatchStat):
        def get_value(self, **kwargs):
            return super().get_value(**kwargs) * 2.0

        def set_value(self, value, **kwargs):
            super().set_value(value / 2.0, **kwargs)

    class Mean(nnx.Module):
        def __init__(self):
            self.mean = Halved(jnp.zeros(3))

        def __call__(self, inputs):
            self.mean.set_value(0.9 * self.mean.get_value() + 0.1 * inputs.mean(0))

    model = Mean()
    recalibrate_batch_stats(model, forward, BATCHES)
    np.testing.assert_allclose(model.mean.get_value(), averages(BATCHES)[0], rtol=1e-6)


@pytest.mark.parametrize("container", [core.freeze, lambda v: jax.tree.map(np.asarray, v)])
def test_containers_and_arrays_stay_of_their_kind(container):
    module = LinenBatchNorm()
    variables = container(module.init(jax.random.key(0), BATCHES[0]))
    found = recalibrate_linen(
        lambda v, batch: module.apply(v, batch, mutable=["batch_stats"]), variables, BATCHES
    )
    assert jax.tree.structure(found) == jax.tree.structure(variables["batch_stats"])
    assert type(found["mean"]) is type(variables["batch_stats"]["mean"])
    assert_averages(found, BATCHES)


# --- mistakes -------------------------------------------------------------------------------------


def test_what_cannot_be_recalibrated_is_said_and_left_as_it_was():
    norm = BatchNorm(rngs=nnx.Rngs(0))
    before = stats(norm)
    with pytest.raises(ValueError, match="at least one batch, got none"):
        recalibrate_batch_stats(norm, forward, [])
    with pytest.raises(ZeroDivisionError):
        recalibrate_batch_stats(norm, forward, (1 / (1 - i) * BATCHES[0] for i in range(2)))
    norm.eval()
    with pytest.raises(ValueError, match=r"not update.*'mean'.*Run the model in training mode"):
        recalibrate_batch_stats(norm, forward, BATCHES)
    jax.tree.map(np.testing.assert_array_equal, stats(norm), before)
    for nothing in (
        lambda: recalibrate_batch_stats(nnx.Linear(3, 1, rngs=nnx.Rngs(0)), forward, BATCHES),
        lambda: recalibrate_linen(lambda v, batch: (None, {}), {"params": {}}, BATCHES),
    ):
        with pytest.raises(ValueError, match="has no batch statistics"):
            nothing()


def test_what_was_skipped_is_named_if_nothing_is_left():
    def apply(variables, batch):
        del batch
        return None, {"batch_stats": {"seen": variables["batch_stats"]["seen"] + 1}}

    with pytest.raises(ValueError, match=r"Left alone, being no running means .*: \['seen'\]"):
        recalibrate_linen(apply, {"batch_stats": {"seen": jnp.int32(0)}}, BATCHES)
    model = nnx.SpectralNorm(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"Left alone, .*sigma.*, .*'u'"):
        recalibrate_batch_stats(model, forward, BATCHES)
