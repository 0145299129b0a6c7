"""Training loops of Flax NNX: where gradients are taken, and where models are evaluated."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from xgrad_optax import base_params, lookahead_params, with_weight_prediction, xgrad
from xgrad_optax.nnx import base_weights, predicted_weights

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


@pytest.mark.parametrize("context", [predicted_weights, base_weights])
def test_an_optimizer_that_does_not_predict_is_refused(context):
    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)
    with pytest.raises(ValueError, match="found no prediction state"), context(model, optimizer):
        pass
