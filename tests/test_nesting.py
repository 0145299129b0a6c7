"""Prediction inside everything that Optax and Flax nest transforms in.

The accessors are always called on the *outermost* state. The quadratic of the train loops is
separable, so each leaf of a nested run must follow the un-nested run of the optimizer that it was
given to; the other expectations are arithmetic.
"""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState
from optax import contrib

from tests.optimizers_under_test import (
    FORMS,
    OPTIMIZERS,
    STEPS,
    Loop,
    Optimizer,
    Point,
    S,
    drop_in,
    explicit,
    gradient,
    plain,
    relaxed,
    small_params,
)
from xgrad_optax import base_params, lookahead_params, predictors, with_weight_prediction

pytestmark = pytest.mark.usefixtures("quickly_compiled")
ROWS = {row.name: row for row in OPTIMIZERS}
FORM = pytest.mark.parametrize("form", FORMS)
# One of each predictor: closed form, rollout, last update.
PREDICTED = pytest.mark.parametrize(
    "row",
    [ROWS[name] for name in ("named_adam", "zero_gradient_adamw", "rmsprop_momentum")],
    ids=lambda row: row.name,
)
OTHER = ROWS["named_sgdm"]
OTHER_S = 3


assert_close = functools.partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-5)
assert_bitwise_equal = functools.partial(chex.assert_trees_all_equal, strict=True)


def points_of(loop, weights=(1.0,) * STEPS, params=None):
    """θ and θ̂ after each step of one compiled run."""
    params = small_params() if params is None else params
    program = jax.jit(loop.train, static_argnums=2)
    _, (points, _) = program(params, loop.tx.init(params), weights)
    return points


@functools.cache
def unnested(make_loop, row, s=S):
    return points_of(make_loop(row, s))


def leaf(points, name):
    return Point(points.base[name], points.predicted[name])


def of_steps(points, steps):
    return jax.tree.map(lambda x: x[steps], points)


# --------------------------------------------------------------------------------------------------
# Wrappers that change nothing here: the nested run is the un-nested one
# --------------------------------------------------------------------------------------------------

LOOSE_CLIP = optax.clip(1e6)

TRANSPARENT = {
    "chain": lambda tx: optax.chain(LOOSE_CLIP, tx),
    "chain_of_chains": lambda tx: optax.chain(optax.chain(LOOSE_CLIP, optax.chain(tx))),
    "named_chain": lambda tx: optax.named_chain(("clip", LOOSE_CLIP), ("predicted", tx)),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, max_consecutive_errors=2),
    "conditionally_transform": lambda tx: optax.conditionally_transform(tx, lambda step: step >= 0),
    "partition_of_one_group": lambda tx: optax.partition({"all": tx}, lambda p: _labels(p, "all")),
    "masked_nothing": lambda tx: optax.masked(tx, True),
    "inject_hyperparams_of_a_neighbour": lambda tx: optax.chain(
        optax.inject_hyperparams(optax.clip)(max_delta=1e6), tx
    ),
    "one_step_accumulation": lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
    "three_deep": lambda tx: optax.chain(
        LOOSE_CLIP,
        optax.MultiSteps(
            optax.partition({"all": optax.named_chain(("inner", tx))}, lambda p: _labels(p, "all")),
            1,
        ).gradient_transformation(),
    ),
}


def _labels(params, label):
    return jax.tree.map(lambda _: label, params)


@PREDICTED
@FORM
@pytest.mark.parametrize("wrapper", TRANSPARENT)
def test_wrapper_changes_nothing(wrapper, form, row):
    nested = points_of(FORMS[form](row).around(TRANSPARENT[wrapper]))
    assert_close(nested, unnested(FORMS[form], row))


@pytest.mark.parametrize("name", ["named_sgdm", "zero_gradient_sgd_momentum", "sgd_momentum"])
@FORM
def test_clipping_before_prediction_is_clipping_inside_it(form, name):
    row, clip = ROWS[name], optax.clip(0.3)  # all gradients are larger
    nested = points_of(FORMS[form](row).around(lambda tx: optax.chain(clip, tx)))
    inside = dataclasses.replace(row, make=lambda: optax.chain(clip, row.make()), named=None)
    assert_close(nested, points_of(FORMS[form](inside)))
    assert not np.allclose(nested.base["w"], unnested(FORMS[form], row).base["w"], atol=1e-2)


@PREDICTED
def test_lookahead_params_of_the_pair_takes_the_outermost_state_too(row):
    own_lookahead_params, tx = row.predicted(S)
    tx = relaxed(optax.chain(LOOSE_CLIP, optax.masked(tx, {"w": True, "b": False})))
    params = small_params()
    _, state = tx.update(gradient(params), tx.init(params), params)
    assert_bitwise_equal(own_lookahead_params(params, state), lookahead_params(params, state))


# --------------------------------------------------------------------------------------------------
# Groups and masks
# --------------------------------------------------------------------------------------------------


def group_loop(transforms, row, locate):
    """Leaf "w" is trained by the transform "w", leaf "b" by the transform "b"."""
    return Loop(relaxed(optax.partition(transforms, {"w": "w", "b": "b"})), locate, row)


def groups(form, row, other_tx):
    loop = FORMS[form](row)
    return group_loop({"w": loop.tx, "b": other_tx}, row, loop.locate)


@PREDICTED
@FORM
def test_groups_with_other_optimizers_and_horizons(form, row):
    points = points_of(groups(form, row, FORMS[form](OTHER, OTHER_S).tx))
    assert_close(leaf(points, "w"), leaf(unnested(FORMS[form], row), "w"))
    assert_close(leaf(points, "b"), leaf(unnested(FORMS[form], OTHER, OTHER_S), "b"))


@PREDICTED
@FORM
def test_group_without_prediction(form, row):
    points = points_of(groups(form, row, OTHER.plain()))
    assert_close(leaf(points, "w"), leaf(unnested(FORMS[form], row), "w"))
    assert_close(leaf(points, "b"), leaf(unnested(plain, OTHER), "b"))
    assert_bitwise_equal(points.predicted["b"], points.base["b"])


@PREDICTED
def test_explicit_group_beside_drop_in_group(row):
    """The train step holds θ of the one and θ̂ of the other; each accessor touches its own."""

    def locate(params, state):
        predicted, base = lookahead_params(params, state), base_params(params, state)
        np.testing.assert_equal(predicted["b"] is params["b"], True)
        np.testing.assert_equal(base["w"] is params["w"], True)
        return Point(base, predicted)

    transforms = {"w": explicit(row).tx, "b": drop_in(OTHER, OTHER_S).tx}
    points = points_of(group_loop(transforms, row, locate))
    assert_close(leaf(points, "w"), leaf(unnested(explicit, row), "w"))
    assert_close(leaf(points, "b"), leaf(unnested(drop_in, OTHER, OTHER_S), "b"))


@PREDICTED
@FORM
def test_one_transform_in_two_groups(form, row):
    """Both groups have a state of their own."""
    loop = FORMS[form](row)
    points = points_of(group_loop({"w": loop.tx, "b": loop.tx}, row, loop.locate))
    assert_close(points, unnested(FORMS[form], row))


def two_masks(tx, other_tx, mask):
    opposite = jax.tree.map(lambda covered: not covered, mask)
    return optax.chain(optax.masked(tx, mask), optax.masked(other_tx, opposite))


@PREDICTED
@FORM
@pytest.mark.parametrize("kind", ["tree", "function"])
def test_masked_out_leaves_keep_their_value(form, row, kind):
    mask = {"w": True, "b": False}
    given = mask if kind == "tree" else lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    freeze = optax.masked(optax.set_to_zero(), {"w": False, "b": True})
    loop = FORMS[form](row).around(lambda tx: optax.chain(optax.masked(tx, given), freeze))
    points = points_of(loop)
    assert_close(leaf(points, "w"), leaf(unnested(FORMS[form], row), "w"))
    frozen = jnp.stack([small_params()["b"]] * STEPS)
    assert_bitwise_equal(leaf(points, "b"), Point(frozen, frozen))


@PREDICTED
@FORM
def test_mask_for_whole_subtrees(form, row):
    params = {"layer": small_params(), "head": small_params()}
    other = FORMS[form](OTHER, OTHER_S).tx
    loop = FORMS[form](row).around(lambda tx: two_masks(tx, other, {"layer": True, "head": False}))
    points = points_of(loop, params=params)
    assert_close(leaf(points, "layer"), unnested(FORMS[form], row))
    assert_close(leaf(points, "head"), unnested(FORMS[form], OTHER, OTHER_S))


def test_overlapping_states_are_both_named():
    tx = optax.named_chain(
        ("first", explicit(OTHER).tx),
        ("second", optax.masked(explicit(ROWS["adam"]).tx, {"w": False, "b": True})),
    )
    with pytest.raises(ValueError, match="cover the parameter") as error:
        lookahead_params(small_params(), tx.init(small_params()))
    for part in ("['b']", "opt_state['first']", "opt_state['second'].inner_state"):
        assert part in str(error.value)


@FORM
def test_disjoint_masks_of_one_chain_do_not_overlap(form):
    loop = FORMS[form](OTHER).around(lambda tx: two_masks(tx, tx, {"w": True, "b": False}))
    assert_close(points_of(loop), unnested(FORMS[form], OTHER))


# --------------------------------------------------------------------------------------------------
# Steps that do not happen
# --------------------------------------------------------------------------------------------------


@PREDICTED
@FORM
def test_rejected_gradient_leaves_the_prediction_alone(form, row):
    loop = FORMS[form](row).around(lambda tx: optax.apply_if_finite(tx, max_consecutive_errors=2))
    points = points_of(loop, weights=(1.0, float("nan"), 1.0, float("inf"), 1.0))
    expected = unnested(FORMS[form], row)
    assert_close(points, of_steps(expected, np.array([0, 0, 1, 1, 2])))
    assert_bitwise_equal(of_steps(points, 1), of_steps(points, 0))


@PREDICTED
@FORM
def test_skipped_steps_leave_the_prediction_alone(form, row):
    loop = FORMS[form](row).around(
        lambda tx: optax.conditionally_mask(tx, lambda step: step % 2 == 0)
    )
    points = points_of(loop)
    assert_close(points, of_steps(unnested(FORMS[form], row), np.array([0, 0, 1, 1, 2])))
    assert_bitwise_equal(of_steps(points, 1), of_steps(points, 0))


@PREDICTED
def test_prediction_rests_while_updates_bypass_the_optimizer(row):
    """conditionally_transform lets the raw gradients through: θ moves, θ̂ - θ does not."""
    loop = explicit(row).around(lambda tx: optax.conditionally_transform(tx, lambda step: step < 2))
    base, predicted = points_of(loop, weights=(1.0, 1.0, -0.01))
    assert_close(predicted["w"][2] - base["w"][2], predicted["w"][1] - base["w"][1])
    assert jnp.abs(base["w"][2] - base["w"][1]).max() > 1e-3


@PREDICTED
@FORM
def test_accumulation_of_groups_behind_clipping(form, row):
    """Three deep: chain(clip, MultiSteps(partition)); each micro-batch's gradient differs."""
    loop = groups(form, row, FORMS[form](OTHER, OTHER_S).tx).around(
        lambda tx: optax.chain(LOOSE_CLIP, optax.MultiSteps(tx, 2).gradient_transformation())
    )
    points = points_of(loop, weights=(1.5, 0.5) * STEPS)
    after_updates = of_steps(points, slice(1, None, 2))
    assert_close(leaf(after_updates, "w"), leaf(unnested(FORMS[form], row), "w"))
    assert_close(leaf(after_updates, "b"), leaf(unnested(FORMS[form], OTHER, OTHER_S), "b"))


@FORM
def test_injected_horizon_of_one_group(form):
    """inject_hyperparams(chain(clip, partition)): s of one group is changed after two steps."""

    def build(s):
        other = FORMS[form](OTHER, OTHER_S).tx
        transforms = {"w": FORMS[form](ROWS["adam"], s).tx, "b": other}
        return optax.chain(LOOSE_CLIP, optax.partition(transforms, {"w": "w", "b": "b"}))

    tx = relaxed(optax.inject_hyperparams(build)(s=S))
    loop = Loop(tx, FORMS[form](OTHER).locate, OTHER)
    params = small_params()
    program = jax.jit(loop.train, static_argnums=2)
    (params, state), (before, _) = program(params, tx.init(params), (1.0,) * 2)
    expected = of_steps(unnested(FORMS[form], ROWS["adam"]), slice(2))
    assert_close(leaf(before, "w"), leaf(expected, "w"))
    _, (after, _) = program(params, state._replace(hyperparams={"s": jnp.array(0.5)}), (1.0,) * 2)
    last_update = after.base["w"][1] - after.base["w"][0]
    assert_close(after.predicted["w"][1], after.base["w"][1] + 0.5 * last_update)
    both = jax.tree.map(lambda *x: jnp.concatenate(x), before, after)
    expected = of_steps(unnested(FORMS[form], OTHER, OTHER_S), slice(4))
    assert_close(leaf(both, "b"), leaf(expected, "b"))


# --------------------------------------------------------------------------------------------------
# Extra arguments
# --------------------------------------------------------------------------------------------------


def spy():
    """A transform that notes the extra arguments of its last call."""
    seen = {}

    def update(updates, state, params=None, **extra_args):
        seen.update(extra_args)
        return updates, state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update), seen


FORWARDING = {
    "nothing": lambda tx: tx,
    "chain": lambda tx: optax.chain(LOOSE_CLIP, tx),
    "named_chain": lambda tx: optax.named_chain(("predicted", tx)),
    "partition": lambda tx: optax.partition({"all": tx}, lambda params: _labels(params, "all")),
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 2),
    "conditionally_mask": lambda tx: optax.conditionally_mask(tx, lambda step: step >= 0),
    "inject_hyperparams": lambda tx: optax.inject_hyperparams(lambda unused: tx)(unused=1.0),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2),
}


@FORM
@pytest.mark.parametrize("wrapper", FORWARDING)
def test_extra_args_reach_the_inner_transform_untouched(wrapper, form):
    inner, seen = spy()
    row = Optimizer("spy", lambda: optax.chain(inner, optax.scale(-0.1)))
    tx = relaxed(FORWARDING[wrapper](FORMS[form](row).tx))
    params, batch = small_params(), object()
    tx.update(params, tx.init(params), params, batch=batch, value=1.0)
    assert seen.keys() == {"batch", "value"}
    assert seen["batch"] is batch


# --------------------------------------------------------------------------------------------------
# Transforms that see other parameters than the train step
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rmsprop_momentum", "zero_gradient_adamw"])
@FORM
def test_prediction_around_flatten(form, name):
    row = dataclasses.replace(ROWS[name], make=lambda: optax.flatten(ROWS[name].make()))
    assert_close(points_of(FORMS[form](row)), unnested(FORMS[form], ROWS[name]))


def test_prediction_around_split_complex_numbers():
    """Real and imaginary part are predicted as the two real problems that they are."""
    inner = optax.rmsprop(0.1)
    split_lookahead_params, split_tx = with_weight_prediction(
        contrib.split_real_and_imaginary(inner), S
    )
    pair_lookahead_params, pair_tx = with_weight_prediction(inner, S)
    params, grads = jnp.array([1 + 2j, 3 - 1j]), jnp.array([0.5 - 1j, 2 + 0.1j])
    pair, pair_grads = ((jnp.real(x), jnp.imag(x)) for x in (params, grads))
    _, state = split_tx.update(grads, split_tx.init(params), params)
    _, pair_state = pair_tx.update(pair_grads, pair_tx.init(pair), pair)
    real, imaginary = pair_lookahead_params(pair, pair_state)
    assert_close(split_lookahead_params(params, state), jax.lax.complex(real, imaginary))


OTHER_SHAPES = "not the parameters .* (which has an array of shape|has shape .* in the state)"


@FORM
@pytest.mark.parametrize("shape", [(4, 3), (3, 1)])
@pytest.mark.parametrize("tree", ["two_leaves", "one_leaf"])
def test_flatten_around_prediction_is_refused(form, shape, tree):
    """Its flat vectors fit no parameter, not even where shapes would broadcast."""
    matrix = jnp.ones(shape)
    params = {"a": matrix, "b": jnp.ones(3)} if tree == "two_leaves" else matrix
    loop = FORMS[form](ROWS["adam"]).around(optax.flatten)
    _, state = loop.tx.update(params, loop.tx.init(params), params)
    with pytest.raises(
        ValueError,
        match=OTHER_SHAPES,
    ):
        loop.locate(params, state)


@FORM
def test_split_complex_numbers_around_prediction_are_refused(form):
    params = {"w": jnp.ones(2, jnp.complex64)}
    loop = FORMS[form](ROWS["adam"]).around(contrib.split_real_and_imaginary)
    with pytest.raises(ValueError, match="not the parameters that the state at"):
        loop.locate(params, loop.tx.init(params))


def test_closed_form_around_flatten_is_refused():
    """The moments are flat; what can be predicted is shown by test_prediction_around_flatten."""
    pair = with_weight_prediction(optax.flatten(optax.adam(0.1)), predictor=predictors.adam(0.1))
    params = small_params()
    with pytest.raises(
        ValueError,
        match=OTHER_SHAPES,
    ):
        pair.lookahead_params(params, pair.tx.init(params))


@pytest.mark.parametrize("wrapper", ["schedule_free", "mechanize"])
def test_prediction_inside_a_transform_that_moves_points_itself(wrapper):
    """Then the prediction is that of the *wrapped* optimizer: s times the update it just made."""
    wrap = {
        "schedule_free": lambda tx: contrib.schedule_free(tx, learning_rate=0.1),
        "mechanize": lambda tx: contrib.mechanize(tx),
    }[wrapper]
    loop = explicit(Optimizer("sgd", lambda: optax.sgd(0.1))).around(wrap)
    params = small_params()
    state = loop.tx.init(params)
    for _ in range(2):
        predicted = lookahead_params(params, state)
        grads = gradient(predicted)
        updates, state = loop.tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    expected = jax.tree.map(lambda p, g: p - S * 0.1 * g, params, grads)
    assert_close(lookahead_params(params, state), expected)


# --------------------------------------------------------------------------------------------------
# Flax Linen
# --------------------------------------------------------------------------------------------------


class Network(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(linen.tanh(linen.Dense(4)(x)))


INPUTS = jnp.linspace(-1.0, 1.0, 10).reshape(5, 2)


def network_loss(params):
    return jnp.mean((Network().apply({"params": params}, INPUTS) - 1.0) ** 2)


def network_params():
    return Network().init(jax.random.key(0), INPUTS)["params"]


def follow_network(form, row, steps=3):
    """θ and θ̂ of the network after a plain Optax loop, which knows no train state."""
    loop = FORMS[form](row)

    @jax.jit
    def step(params, state):
        grads = jax.grad(network_loss)(loop.locate(params, state).predicted)
        updates, state = loop.tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = network_params()
    state = loop.tx.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return loop.locate(params, state)


@PREDICTED
@FORM
def test_linen_train_state(form, row):
    """The accessors take the train state's opt_state, or the train state itself."""
    tx = FORMS[form](row).tx
    train_state = TrainState.create(apply_fn=Network().apply, params=network_params(), tx=tx)

    @jax.jit
    def step(train_state):
        point = train_state.params
        if form == "explicit":
            point = lookahead_params(train_state.params, train_state.opt_state)
        return train_state.apply_gradients(grads=jax.grad(network_loss)(point))

    for _ in range(3):
        train_state = step(train_state)
    expected = follow_network(form, row)
    accessor = lookahead_params if form == "explicit" else base_params
    actual = accessor(train_state.params, train_state.opt_state)
    assert_close(actual, expected.predicted if form == "explicit" else expected.base)
    assert_bitwise_equal(accessor(train_state.params, train_state), actual)


# --------------------------------------------------------------------------------------------------
# Flax NNX
# --------------------------------------------------------------------------------------------------


class Model(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(2, 4, rngs=rngs)
        self.out = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.tanh(self.hidden(x)))


def model_loss(model):
    return jnp.mean((model(INPUTS) - 1.0) ** 2)


def explicit_nnx_step(model, optimizer):
    params = jax.tree.map(lambda p: p, nnx.state(model, nnx.Param))
    nnx.update(model, lookahead_params(params, optimizer.opt_state))
    grads = nnx.grad(model_loss)(model)
    nnx.update(model, params)
    optimizer.update(model, grads)


def stock_nnx_step(model, optimizer):
    optimizer.update(model, nnx.grad(model_loss)(model))


NNX_STEPS = {"explicit": explicit_nnx_step, "drop-in": stock_nnx_step}


def follow_model(form, row, steps=3):
    """θ and θ̂ of the model after a plain Optax loop over pure arrays."""
    loop = FORMS[form](row)
    graph, params = nnx.split(Model(nnx.Rngs(0)))
    params = nnx.to_pure_dict(params)

    def loss(params):
        variables = nnx.state(Model(nnx.Rngs(0)))
        nnx.replace_by_pure_dict(variables, params)
        return model_loss(nnx.merge(graph, variables))

    @jax.jit
    def step(params, state):
        grads = jax.grad(loss)(loop.locate(params, state).predicted)
        updates, state = loop.tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = loop.tx.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return loop.locate(params, state)


@PREDICTED
@FORM
@pytest.mark.parametrize("wrapper", ["nothing", "chain", "partition"])
def test_nnx_optimizer(form, row, wrapper):
    """The accessors take the raw ``optimizer.opt_state``, whose leaves are NNX variables."""
    model = Model(nnx.Rngs(0))
    tx = relaxed(FORWARDING[wrapper](FORMS[form](row).tx))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    step = nnx.jit(NNX_STEPS[form])
    for _ in range(3):
        step(model, optimizer)
    params = nnx.state(model, nnx.Param)
    expected = follow_model(form, row)
    if form == "explicit":
        actual, expected = lookahead_params(params, optimizer.opt_state), expected.predicted
    else:
        actual, expected = base_params(params, optimizer.opt_state), expected.base
    assert jax.tree.structure(actual) == jax.tree.structure(params)
    assert_close(nnx.to_pure_dict(actual), expected)


@FORM
def test_nnx_step_compiles_once(form):
    model = Model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, FORMS[form](OTHER).tx, wrt=nnx.Param)
    traces = []

    @nnx.jit
    def step(model, optimizer):
        traces.append(1)
        NNX_STEPS[form](model, optimizer)

    for _ in range(3):
        step(model, optimizer)
    assert len(traces) == 1
