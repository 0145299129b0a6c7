"""What comes behind a prediction in a chain: followed, left out with a warning, or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import xgrad_optax
from xgrad_optax import base_params, in_place, lookahead_params, with_weight_prediction, xgrad

PARAMS = {"w": jnp.ones(3), "b": jnp.zeros(2)}
FROZEN_B = {"w": False, "b": True}
EXPLICIT = {
    "named": lambda: xgrad_optax.sgdm(0.1, s=1, momentum=0.0).tx,
    "wrapper": lambda: with_weight_prediction(optax.sgd(0.1), 1).tx,
}
AHEAD = {
    "drop-in": lambda: xgrad(optax.sgd(0.1), 1),
    "in place": lambda: in_place(xgrad_optax.sgdm(0.1, s=1, momentum=0.0)),
}
ALTERING = {
    "schedule": lambda: optax.scale_by_schedule(optax.linear_schedule(1.0, 0.1, 4)),
    "clipping": lambda: optax.clip_by_global_norm(0.05),
    "scale": lambda: optax.scale(0.1),
    "decay": lambda: optax.add_decayed_weights(0.1),
    "trace": lambda: optax.trace(0.9),
    "chain": lambda: optax.chain(optax.scale(0.5), optax.clip(1.0)),
    "some leaves": lambda: optax.masked(optax.set_to_zero(), FROZEN_B),
    "accumulation": lambda: optax.apply_every(2),
}
PASSING = {
    "monitor": lambda: optax.monitor({"nothing": lambda updates: jnp.zeros([])}),
    "zero_nans": optax.zero_nans,
}
PLACES = {
    "chain": lambda tx, behind: optax.chain(optax.clip(10.0), tx, behind),
    "inner chain": lambda tx, behind: optax.chain(optax.chain(tx), behind),
    "accumulated": lambda tx, behind: optax.MultiSteps(
        optax.chain(tx, behind), 1
    ).gradient_transformation(),
    "injected": lambda tx, behind: optax.inject_hyperparams(
        lambda rate: optax.chain(optax.scale(rate), tx, behind)
    )(rate=1.0),
}


def after(tx, steps=3):
    params, state = PARAMS, tx.init(PARAMS)
    with jax.numpy_dtype_promotion("standard"):  # plain Optax needs it
        for _ in range(steps):
            grads = jax.tree.map(jnp.ones_like, params)
            updates, state = tx.update(grads, state, params, value=jnp.float32(1.0))
            params = optax.apply_updates(params, updates)
    return params, state, updates


@pytest.mark.parametrize("form", EXPLICIT)
@pytest.mark.parametrize("behind", ALTERING)
def test_nothing_is_predicted_where_it_is_not_known_what_is_applied(form, behind):
    params, state, _ = after(optax.chain(EXPLICIT[form](), ALTERING[behind]()))
    with pytest.warns(UserWarning, match=r"Nothing is predicted.*Put them inside"):
        predicted = lookahead_params(params, state)
    jax.tree.map(np.testing.assert_array_equal, predicted, params)


@pytest.mark.parametrize("place", PLACES)
def test_what_comes_behind_is_seen_in_any_nesting(place):
    params, state, _ = after(PLACES[place](EXPLICIT["wrapper"](), optax.scale(0.1)))
    with pytest.warns(UserWarning, match="EmptyState"):
        lookahead_params(params, state)
    params, state, _ = after(PLACES[place](AHEAD["drop-in"](), optax.scale(0.1)))
    with pytest.raises(ValueError, match=r"Put them inside: xgrad\(optax.chain\(inner, behind\)"):
        base_params(params, state)


@pytest.mark.parametrize("form", AHEAD)
@pytest.mark.parametrize("behind", ALTERING)
def test_moves_that_may_be_changed_are_refused(form, behind):
    params, state, _ = after(optax.chain(AHEAD[form](), ALTERING[behind]()))
    with pytest.raises(ValueError, match="the base parameters are then wrong"):
        base_params(params, state)


@pytest.mark.parametrize("behind", PASSING)
def test_what_changes_nothing_may_come_behind(behind):
    params, state, updates = after(optax.chain(EXPLICIT["wrapper"](), PASSING[behind]()))
    predicted = lookahead_params(params, state)
    jax.tree.map(
        lambda q, p, u: np.testing.assert_allclose(q - p, u, rtol=1e-5), predicted, params, updates
    )
    params, state, _ = after(optax.chain(AHEAD["drop-in"](), PASSING[behind]()))
    np.testing.assert_allclose(params["w"] - base_params(params, state)["w"], -0.1, rtol=1e-5)


@pytest.mark.parametrize("form", EXPLICIT)
def test_factor_of_a_plateau_is_followed(form):
    """The loss stands still, so the factor has fallen; it is what the next update is scaled by."""
    plateau = contrib.reduce_on_plateau(0.5, patience=1)
    tx = optax.chain(EXPLICIT[form](), plateau)
    params, state, _ = after(tx, steps=7)
    scale = float(state[1].scale)
    assert scale < 0.3
    predicted = lookahead_params(params, state)
    np.testing.assert_allclose(predicted["w"] - params["w"], -0.1 * scale, rtol=1e-4)


def test_groups_one_behind_the_other_are_independent():
    train_w = optax.masked(EXPLICIT["wrapper"](), {"w": True, "b": False})
    freeze_b = optax.masked(optax.set_to_zero(), FROZEN_B)
    params, state, _ = after(optax.chain(train_w, freeze_b))
    predicted = lookahead_params(params, state)
    np.testing.assert_allclose(predicted["w"] - params["w"], -0.1, rtol=1e-5)
    np.testing.assert_array_equal(predicted["b"], params["b"])


OWN_STATES = {"None": None, "empty": (), "dict": {"n": 0.0}, "array": 0.0}


@pytest.mark.parametrize("state", OWN_STATES)
def test_transforms_of_ones_own_behind_are_seen_whatever_their_state(state):
    own = optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.asarray, OWN_STATES[state]),
        lambda updates, state, params=None: (jax.tree.map(lambda u: 0.01 * u, updates), state),
    )
    params, opt_state, _ = after(optax.chain(EXPLICIT["wrapper"](), own))
    with pytest.warns(UserWarning, match="Nothing is predicted"):
        lookahead_params(params, opt_state)
    params, opt_state, _ = after(optax.chain(AHEAD["drop-in"](), own))
    with pytest.raises(ValueError, match="the base parameters are then wrong"):
        base_params(params, opt_state)


@pytest.mark.parametrize(
    "behind",
    [
        lambda: contrib.reduce_on_plateau(0.1, patience=1),
        lambda: optax.scale_by_schedule(optax.constant_schedule(0.1)),
    ],
    ids=["plateau", "schedule"],
)
def test_masked_scalars_behind_a_masked_prediction_may_be_its_own(behind):
    mask = {"w": True, "b": False}
    tx = optax.chain(optax.masked(EXPLICIT["wrapper"](), mask), optax.masked(behind(), mask))
    params, state, _ = after(tx)
    with pytest.warns(UserWarning, match="Nothing is predicted"):
        lookahead_params(params, state)
