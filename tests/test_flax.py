"""Flax's two APIs: where gradients are taken, where models are evaluated, what BatchNorm keeps."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training import train_state

import xgrad_optax
from xgrad_optax import base_params, lookahead_params, with_weight_prediction, xgrad
from xgrad_optax.linen import XGradTrainState
from xgrad_optax.linen import recalibrate_batch_stats as recalibrate_linen
from xgrad_optax.nnx import base_weights, predicted_weights, recalibrate_batch_stats

S = 2
# The bias in front of a BatchNorm has no gradient but rounding errors, which Adam would blow up.
INNER = optax.sgd(0.1, momentum=0.9)
INPUTS = jax.random.normal(jax.random.key(0), (5, 8, 3))  # batches
FORMS = {
    "explicit": lambda inner: with_weight_prediction(inner, S).tx,
    "drop-in": lambda inner: xgrad(inner, S),
}
EACH_FORM = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(autouse=True)
def strict_numerics():
    """Replaces the library tests' fixture: Flax promotes ranks and dtypes freely."""


def assert_same(actual, expected, **tolerances):
    check = np.testing.assert_array_equal
    if tolerances:
        check = lambda a, e: np.testing.assert_allclose(a, e, **tolerances)  # noqa: E731
    jax.tree.map(check, actual, expected)


# --------------------------------------------------------------------------------------------------
# NNX
# --------------------------------------------------------------------------------------------------


class Network(nnx.Module):
    def __init__(self, rngs, dtype=jnp.float32):
        self.hidden = nnx.Linear(3, 4, rngs=rngs, param_dtype=dtype)
        self.norm = nnx.BatchNorm(4, momentum=0.75, rngs=rngs)
        self.dropout = nnx.Dropout(0.25, rngs=rngs)
        self.out = nnx.Linear(4, 1, rngs=rngs, param_dtype=dtype)

    def __call__(self, inputs):
        return self.out(self.dropout(nnx.tanh(self.norm(self.hidden(inputs)))))


def nnx_loss(model, inputs):
    return jnp.mean((model(inputs) - inputs[:, :1]) ** 2)


@nnx.jit
def nnx_step(model, optimizer, inputs):
    with predicted_weights(model, optimizer):
        loss, grads = nnx.value_and_grad(nnx_loss)(model, inputs)
    optimizer.update(model, grads)
    return loss


def make_nnx(form):
    model = Network(nnx.Rngs(0))
    return model, nnx.Optimizer(model, FORMS[form](INNER), wrt=nnx.Param)


def weights(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def everything_else(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Not(nnx.Param)))


def functional_run(number):
    """θ and the other variables after some steps, by splitting and merging by hand."""
    lookahead, tx = with_weight_prediction(INNER, S)
    graph, params, rest = nnx.split(Network(nnx.Rngs(0)), nnx.Param, ...)
    opt_state = tx.init(params)

    @jax.jit
    def step(params, rest, opt_state, inputs):
        def loss(params):
            model = nnx.merge(graph, params, rest, copy=True)
            value = nnx_loss(model, inputs)
            return value, nnx.state(model, nnx.Not(nnx.Param))

        grads, rest = jax.grad(loss, has_aux=True)(lookahead(params, opt_state))
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), rest, opt_state

    for inputs in INPUTS[:number]:
        params, rest, opt_state = step(params, rest, opt_state, inputs)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)


@EACH_FORM
def test_loop_trains_at_predicted_weights_and_keeps_what_the_forward_pass_wrote(form):
    model, optimizer = make_nnx(form)
    for inputs in INPUTS[:4]:
        nnx_step(model, optimizer, inputs)
    expected_weights, expected_rest = functional_run(4)
    with base_weights(model, optimizer) as evaluated:
        assert evaluated is model
        assert_same(weights(model), expected_weights, rtol=1e-4, atol=1e-6)
    # Statistics of BatchNorm and the random stream of dropout.
    assert_same(
        jax.tree.map(_data, everything_else(model)),
        jax.tree.map(_data, expected_rest),
        rtol=1e-4,
        atol=1e-6,
    )


def _data(x):
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def trained(form):
    model, optimizer = make_nnx(form)
    for inputs in INPUTS[:3]:
        nnx_step(model, optimizer, inputs)
    return model, optimizer


def test_weights_inside_and_after_the_block():
    model, optimizer = trained("explicit")
    held = weights(model)
    with predicted_weights(model, optimizer):
        inside = weights(model)
    assert_same(inside, weights_of(lookahead_params, model, optimizer))
    assert not np.array_equal(inside["out"]["kernel"], held["out"]["kernel"])
    assert_same(weights(model), held)
    with base_weights(model, optimizer):
        assert_same(weights(model), held)

    model, optimizer = trained("drop-in")
    held = weights(model)
    with predicted_weights(model, optimizer):
        assert_same(weights(model), held)
    with base_weights(model, optimizer):
        inside = weights(model)
        copy = nnx.clone(model)
    assert_same(inside, weights_of(base_params, model, optimizer))
    assert_same(weights(copy), inside)
    assert not np.array_equal(inside["out"]["kernel"], held["out"]["kernel"])
    assert_same(weights(model), held)


def weights_of(accessor, model, optimizer):
    return nnx.to_pure_dict(accessor(nnx.state(model, nnx.Param), optimizer.opt_state))


@pytest.mark.parametrize(
    ("form", "context"), [("explicit", predicted_weights), ("drop-in", base_weights)]
)
def test_an_exception_in_the_block_leaves_the_model_as_it_was(form, context):
    model, optimizer = trained(form)
    held = weights(model)
    with pytest.raises(ZeroDivisionError), context(model, optimizer):
        raise ZeroDivisionError
    assert_same(weights(model), held)


def test_master_copy_is_what_is_evaluated():
    model = Network(nnx.Rngs(0), jnp.bfloat16)
    tx = xgrad(optax.sgd(0.1), S, base_dtype=jnp.float32)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    nnx_step(model, optimizer, INPUTS[0])
    with base_weights(model, optimizer):
        assert model.out.kernel[...].dtype == jnp.float32
    assert model.out.kernel[...].dtype == jnp.bfloat16


def test_each_group_of_a_partition_has_its_own_form():
    model = Network(nnx.Rngs(0))

    def labels(params):
        return jax.tree.map_with_path(lambda path, _: path[0].key, params)

    groups = {
        "hidden": FORMS["explicit"](optax.sgd(0.1)),
        "norm": FORMS["explicit"](optax.sgd(0.1)),
        "out": FORMS["drop-in"](optax.sgd(0.1)),
    }
    optimizer = nnx.Optimizer(model, optax.partition(groups, labels), wrt=nnx.Param)
    start = weights(model)
    nnx_step(model, optimizer, INPUTS[0])
    with base_weights(model, optimizer):
        base = weights(model)
    with predicted_weights(model, optimizer):
        predicted = weights(model)
    moved = jax.tree.map(lambda b, s: b - s, base, start)
    ahead = jax.tree.map(lambda p, b: p - b, predicted, base)
    assert_same(ahead, jax.tree.map(lambda m: S * m, moved), rtol=1e-3, atol=1e-6)


@EACH_FORM
def test_the_step_compiles_once(form):
    traces = 0

    @nnx.jit
    def step(model, optimizer, inputs):
        nonlocal traces
        traces += 1
        return nnx_step(model, optimizer, inputs)

    model, optimizer = make_nnx(form)
    for inputs in INPUTS:
        step(model, optimizer, inputs)
    assert traces == 1


@pytest.mark.parametrize("jit", [nnx.jit, lambda f: f], ids=["jit", "eager"])
def test_updating_inside_the_block_is_refused(jit):
    model, optimizer = make_nnx("explicit")

    @jit
    def step(model, optimizer, inputs):
        with predicted_weights(model, optimizer):
            optimizer.update(model, nnx.grad(nnx_loss)(model, inputs))

    with pytest.raises(ValueError, match=r"call optimizer\.update\(model, grads\) after it"):
        step(model, optimizer, INPUTS[0])


@pytest.mark.parametrize("context", [predicted_weights, base_weights])
def test_an_optimizer_that_does_not_predict_is_refused(context):
    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)
    with pytest.raises(ValueError, match="found no prediction state"), context(model, optimizer):
        pass


# --------------------------------------------------------------------------------------------------
# Linen
# --------------------------------------------------------------------------------------------------


class LinenNetwork(linen.Module):
    @linen.compact
    def __call__(self, inputs, train):
        norm = linen.BatchNorm(use_running_average=not train, momentum=0.75)
        return linen.Dense(1)(linen.tanh(norm(linen.Dense(4)(inputs))))


class TrainState(XGradTrainState):
    batch_stats: dict


def make_linen(tx, kind=TrainState):
    model = LinenNetwork()
    variables = model.init(jax.random.key(0), INPUTS[0], train=False)
    return kind.create(apply_fn=model.apply, tx=tx, **variables)


@jax.jit
def linen_step(state, inputs):
    def loss(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        outputs, updated = state.apply_fn(variables, inputs, train=True, mutable=["batch_stats"])
        return jnp.mean((outputs - inputs[:, :1]) ** 2), updated["batch_stats"]

    grads, batch_stats = jax.grad(loss, has_aux=True)(state.predicted_params)
    return state.apply_gradients(grads=grads, batch_stats=batch_stats)


def test_train_state_serves_both_forms_alike():
    states = {name: make_linen(form(INNER)) for name, form in FORMS.items()}
    for inputs in INPUTS:
        states = {name: linen_step(state, inputs) for name, state in states.items()}
    explicit, drop_in = states["explicit"], states["drop-in"]
    assert_same(explicit.base_params, explicit.params)
    assert_same(drop_in.predicted_params, drop_in.params)
    assert_same(explicit.base_params, drop_in.base_params, rtol=1e-4, atol=1e-6)
    assert_same(explicit.predicted_params, drop_in.predicted_params, rtol=1e-4, atol=1e-6)
    assert_same(explicit.batch_stats, drop_in.batch_stats, rtol=1e-4, atol=1e-6)
    assert_same(explicit.predicted_params, lookahead_params(explicit.params, explicit.opt_state))
    assert int(explicit.step) == len(INPUTS)


def test_train_state_takes_what_named_optimizers_return():
    prediction = xgrad_optax.adam(0.05, s=S)
    states = [make_linen(prediction), make_linen(prediction.tx)]
    for inputs in INPUTS[:2]:
        states = [linen_step(state, inputs) for state in states]
    assert_same(*(state.params for state in states))


def test_train_state_survives_flax_serialization():
    state = linen_step(make_linen(xgrad_optax.adam(0.05, s=S)), INPUTS[0])
    written = flax.serialization.to_bytes(state)
    restored = flax.serialization.from_bytes(make_linen(xgrad_optax.adam(0.05, s=S)), written)
    assert_same(restored.predicted_params, state.predicted_params)
    assert_same(linen_step(restored, INPUTS[1]).params, linen_step(state, INPUTS[1]).params)


def test_train_state_of_a_plain_optimizer_predicts_nothing():
    state = make_linen(optax.adam(0.05))
    with pytest.raises(ValueError, match="found no prediction state"):
        _ = state.predicted_params
    assert isinstance(state, train_state.TrainState)


# --------------------------------------------------------------------------------------------------
# BatchNorm statistics
# --------------------------------------------------------------------------------------------------


def expected_stats(activations):
    """Averages over batches of means and variances, ``[batches, examples, features]``."""
    activations = np.asarray(activations, np.float64)
    return activations.mean(axis=1).mean(axis=0), activations.var(axis=1).mean(axis=0)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_recalibrated_statistics_are_plain_averages(momentum, offset):
    batches = 3.0 * INPUTS + offset
    mean, var = expected_stats(batches)

    norm = nnx.BatchNorm(3, momentum=momentum, use_running_average=False, rngs=nnx.Rngs(0))
    recalibrate_batch_stats(norm, nnx.jit(lambda model, batch: model(batch)), iter(batches))
    np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(norm.var[...], var, rtol=2e-3)

    norm = linen.BatchNorm(momentum=momentum, use_running_average=False)
    variables = norm.init(jax.random.key(0), batches[0])
    forward = jax.jit(lambda v, batch: norm.apply(v, batch, mutable=["batch_stats"]))
    stats = recalibrate_linen(forward, variables, batches)
    np.testing.assert_allclose(stats["mean"], mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(stats["var"], var, rtol=2e-3)


def test_recalibration_belongs_to_the_weights_it_ran_at():
    model, optimizer = trained("drop-in")
    forward = nnx.jit(lambda model, batch: model(batch))
    with base_weights(model, optimizer):
        recalibrate_batch_stats(model, forward, INPUTS)
        mean, var = expected_stats(jnp.stack([model.hidden(batch) for batch in INPUTS]))
    np.testing.assert_allclose(model.norm.mean[...], mean, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(model.norm.var[...], var, rtol=1e-3)


def test_layers_may_differ_in_momentum_and_depth():
    class Deep(linen.Module):
        @linen.compact
        def __call__(self, inputs):
            hidden = linen.BatchNorm(False, momentum=0.5, name="first")(inputs)
            return linen.BatchNorm(False, momentum=0.99, name="second")(linen.Dense(4)(hidden))

    model = Deep()
    variables = model.init(jax.random.key(0), INPUTS[0])
    forward = jax.jit(lambda v, batch: model.apply(v, batch, mutable=["batch_stats"]))
    stats = recalibrate_linen(forward, variables, INPUTS)
    normalized = (INPUTS - INPUTS.mean(1, keepdims=True)) / jnp.sqrt(
        INPUTS.var(1, keepdims=True) + 1e-5
    )
    dense = variables["params"]["Dense_0"]
    for name, activations in (
        ("first", INPUTS),
        ("second", normalized @ dense["kernel"] + dense["bias"]),
    ):
        mean, var = expected_stats(activations)
        np.testing.assert_allclose(stats[name]["mean"], mean, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(stats[name]["var"], var, rtol=1e-3)


def test_what_cannot_be_recalibrated_is_said_and_left_as_it_was():
    model, _ = trained("explicit")
    forward = lambda model, batch: model(batch)  # noqa: E731
    before = everything_else(model)["norm"]
    with pytest.raises(ValueError, match="at least one batch, got none"):
        recalibrate_batch_stats(model, forward, [])
    model.eval()
    with pytest.raises(ValueError, match=r"norm.*Run the model in training mode"):
        recalibrate_batch_stats(model, forward, INPUTS)
    assert_same(everything_else(model)["norm"], before)
    with pytest.raises(ValueError, match="has no batch statistics"):
        recalibrate_batch_stats(nnx.Linear(3, 1, rngs=nnx.Rngs(0)), forward, INPUTS)
    with pytest.raises(ValueError, match="has no batch statistics"):
        recalibrate_linen(lambda v, batch: (None, {}), {"params": {}}, INPUTS)
