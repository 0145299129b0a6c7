"""Every arm of every optimizer, and what their names say."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quick import jit_quickly

import xgrad_optax
from experiments.arms import (
    OF_PAPERS,
    OPTIMIZERS,
    Optimizer,
    arm_of,
    horizon_label,
    make_method,
    read_arm,
)
from experiments.errors import UsageError
from experiments.recipe import Recipe
from experiments.task import Gradient
from experiments.tasks import load_task
from experiments.tasks.constant import training_of
from experiments.training.step import step

RATE, STEPS = 0.01, 6
PARAMS = {"w": jnp.array([1.0, -2.0, 3.0]), "m": jnp.eye(3)}


def bowl(params):
    value, gradient = jax.value_and_grad(
        lambda p: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))
    )(params)
    return Gradient(value, gradient, {})


def follow(optimizer, arm, **options):
    """Returns where a method arrives on the bowl, and the loss at each gradient."""
    method = make_method(optimizer, arm, RATE, **options)

    def one(carry, _):
        found, *carry = step(method, bowl, *carry)
        return carry, found.loss

    start = [PARAMS, method.transform.init(PARAMS)]
    (params, opt_state), losses = jax.lax.scan(one, start, length=STEPS)
    return method.evaluated(params, opt_state), losses


def by_hand(tx, lookahead_params=lambda params, opt_state: params):
    """The loop that a user would write."""

    def one(carry, _):
        params, opt_state = carry
        gradient = bowl(lookahead_params(params, opt_state)).params
        updates, opt_state = tx.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    return jax.lax.scan(one, (PARAMS, tx.init(PARAMS)), length=STEPS)[0][0]


PLAIN_BY_HAND = {
    "sgdm": lambda: optax.sgd(RATE, momentum=0.9),
    "rmsprop": lambda: optax.rmsprop(RATE),
    "adagrad": lambda: optax.adagrad(RATE),
    "adam": lambda: optax.adam(RATE),
    "adamw": lambda: optax.adamw(RATE),
    "adabelief": lambda: optax.adabelief(RATE),
    "adam3": lambda: xgrad_optax.transforms.adam3(RATE),
    "radam": lambda: optax.radam(RATE),
    "yogi": lambda: optax.yogi(RATE),
    "adabound": lambda: xgrad_optax.transforms.adabound(RATE),
    "lion": lambda: optax.lion(RATE),
    "muon": lambda: optax.contrib.muon(RATE),
}
NESTEROV_BY_HAND = {
    "sgdm": lambda: optax.sgd(RATE, momentum=0.9, nesterov=True),
    "adam": lambda: optax.nadam(RATE),
    "adamw": lambda: optax.nadamw(RATE),
    "adabelief": lambda: optax.adabelief(RATE, nesterov=True),
    "radam": lambda: optax.radam(RATE, nesterov=True),
}


def predicted_by_hand(optimizer):
    if not hasattr(xgrad_optax.optimizers, optimizer):
        return xgrad_optax.with_weight_prediction(PLAIN_BY_HAND[optimizer](), 1)
    return getattr(xgrad_optax.optimizers, optimizer)(RATE, s=1)


@functools.cache
def predicting(optimizer):
    """Where the arms arrive that are not plain, and where they should; in one program."""
    row = OPTIMIZERS[optimizer]
    arms = ["s=1", "s=2/zero-gradient", "s=2/last-update", "s=1.5/last-update", "sam"]
    arms += ["nesterov"] if row.nesterov else []
    arms += ["schedule-free"] if row.schedule_free else []

    def everything():
        lookahead_params, tx = predicted_by_hand(optimizer)
        hand = {"s=1": by_hand(tx, lookahead_params), "plain": by_hand(PLAIN_BY_HAND[optimizer]())}
        if optimizer in NESTEROV_BY_HAND:
            hand["nesterov"] = by_hand(NESTEROV_BY_HAND[optimizer]())
        return {arm: follow(optimizer, arm) for arm in arms}, hand

    return jit_quickly(everything)()


@functools.cache
def alone(optimizer, arm):
    """Where one arm arrives, in a program of its own."""
    return jax.jit(lambda: follow(optimizer, arm))()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
class TestEveryOptimizer:
    def test_all_arms_descend(self, optimizer):
        arrived, _ = predicting(optimizer)
        for arm, (params, _) in {**arrived, "plain": alone(optimizer, "plain")}.items():
            assert bowl(params).loss < bowl(PARAMS).loss, arm

    def test_a_horizon_of_zero_is_the_plain_optimizer(self, optimizer):
        (plain, at), (predicted, _) = alone(optimizer, "plain"), alone(optimizer, "s=0")
        jax.tree.map(np.testing.assert_array_equal, plain, predicted)
        _, elsewhere = predicting(optimizer)[0]["s=2/last-update"]
        assert elsewhere[-1] != at[-1]

    def test_arms_are_what_a_user_would_write(self, optimizer):
        arrived, expected = predicting(optimizer)
        arrived = {**arrived, "plain": alone(optimizer, "plain")}
        assert ("nesterov" in arrived) == (optimizer in NESTEROV_BY_HAND)
        for arm, params in expected.items():
            for one, other in zip(*map(jax.tree.leaves, (arrived[arm][0], params)), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, err_msg=arm)


def test_horizon_zero_and_baselines_do_not_use_the_library(monkeypatch):
    for name in OF_PAPERS:
        monkeypatch.delattr(f"xgrad_optax.optimizers.{name}")
    for name in OF_PAPERS:
        make_method(name, arm_of(0.0), RATE)
        if OPTIMIZERS[name].baseline:
            make_method(name, "nesterov", RATE)


def test_baselines_have_the_names_that_optax_gives_them():
    found = {name: row.baseline for name, row in OPTIMIZERS.items() if row.baseline}
    assert found == {"sgdm": "nesterov", "adam": "nadam", "adamw": "nadamw"}


def test_sam_takes_the_gradient_a_little_uphill():
    method = make_method("sgdm", "sam", 0.5)
    params = {"w": jnp.array([3.0, 4.0])}
    _, after, _ = step(method, bowl, params, method.transform.init(params))
    uphill = params["w"] * (1 + 0.05 / 5)  # the gradient points along the parameters, of norm 5
    np.testing.assert_allclose(after["w"], params["w"] - 0.5 * 2 * uphill, rtol=1e-6)


@pytest.mark.parametrize("arm", ["plain", "sam"])
def test_clipping_bounds_the_gradient(arm):
    method = make_method("sgdm", arm, 1.0, clip_norm=0.5)
    _, after, _ = step(method, bowl, PARAMS, method.transform.init(PARAMS))
    moved = jax.tree.leaves(jax.tree.map(jnp.subtract, PARAMS, after))
    np.testing.assert_allclose(math.sqrt(sum(float(jnp.sum(m**2)) for m in moved)), 0.5, rtol=1e-5)


def test_weight_decay_is_passed_on():
    decayed, _ = jit_quickly(lambda: follow("adamw", "s=1", weight_decay=5.0))()
    assert np.abs(decayed["w"]).sum() < np.abs(predicting("adamw")[0]["s=1"][0]["w"]).sum()


def test_a_schedule_multiplies_the_rate_of_all_but_schedule_free_methods():
    def halved(count):
        return jnp.where(count < 1, 0.5, 0.0)

    def moved(arm):
        method = make_method("sgdm", arm, 1.0, halved)
        _, after, _ = step(method, bowl, PARAMS, method.transform.init(PARAMS))
        return float(after["w"][0])

    assert moved("plain") == 1.0 - 0.5 * 2.0
    assert moved("schedule-free") == pytest.approx(1.0 - 1.0 * 2.0)


def test_schedule_free_methods_are_judged_at_their_average():
    method = make_method("sgdm", "schedule-free", 0.1)
    _, params, opt_state = step(method, bowl, PARAMS, method.transform.init(PARAMS))
    _, params, opt_state = step(method, bowl, params, opt_state)
    average = optax.contrib.schedule_free_eval_params(opt_state, params)
    found = method.evaluated(params, opt_state)
    jax.tree.map(np.testing.assert_array_equal, found, average)
    assert not np.allclose(found["w"], params["w"])


@pytest.mark.parametrize("predictor", ["zero-gradient", "last-update"])
def test_a_named_predictor_is_the_one_that_predicts(predictor):
    method = make_method("sgdm", f"s=2/{predictor}", 0.1)
    _, params, opt_state = step(method, bowl, PARAMS, method.transform.init(PARAMS))
    made = params["w"] - PARAMS["w"]
    ahead = method.point(params, opt_state)["w"] - params["w"]
    factor = {"zero-gradient": 0.9 + 0.81, "last-update": 2.0}[predictor]
    np.testing.assert_allclose(ahead, factor * made, rtol=1e-5)


@pytest.mark.parametrize(("arm", "steps"), [("s=3", 3), ("s=3/zero-gradient", 0)])
def test_adagrad_predicts_its_last_update_because_its_own_rule_stands_still(arm, steps):
    method = make_method("adagrad", arm, RATE)
    _, params, opt_state = step(method, bowl, PARAMS, method.transform.init(PARAMS))
    gradient = 2 * PARAMS["w"]
    made = -RATE * gradient / np.sqrt(0.1 + gradient**2)  # 0.1 is Optax's first sum of squares
    np.testing.assert_allclose(params["w"] - PARAMS["w"], made, rtol=1e-4)
    ahead = method.point(params, opt_state)["w"] - params["w"]
    np.testing.assert_allclose(ahead, steps * made, rtol=1e-4)


def test_a_row_is_all_that_a_new_optimizer_takes(monkeypatch):
    row = Optimizer("Adamax", plain=Recipe("optax:adamax"), predicted=None)
    monkeypatch.setitem(OPTIMIZERS, "adamax", row)
    rates = load_task("digits").protocol.learning_rates
    assert rates["adamax"] == rates["adam"]
    assert training_of("mnist").learning_rates["adamax"] == 1e-3
    for arm in ("plain", "s=1", "s=1/zero-gradient", "sam"):
        make_method("adamax", arm, RATE)


def test_arms_are_read_from_their_names():
    assert read_arm("s=2.5", "adam").horizon == 2.5
    assert read_arm("s=1", "adam").predictor == "closed-form"
    assert read_arm("s=1", "muon").predictor == "last-update"
    assert read_arm("s=1/zero-gradient", "muon").predictor == "zero-gradient"
    assert read_arm(arm_of(0.0), "adam").form == "plain"
    assert read_arm(arm_of(0.5), "adam").horizon == 0.5


@pytest.mark.parametrize(
    ("optimizer", "arm", "message"),
    [
        ("adam", "s=-1", "unknown arm 's=-1'; valid: plain, nesterov, schedule-free, sam"),
        ("adam", "s=1/oracle", "unknown arm"),
        ("rmsprop", "nesterov", "rmsprop has no arm 'nesterov'"),
        ("lion", "schedule-free", "lion has no arm 'schedule-free'"),
    ],
)
def test_other_names_are_refused(optimizer, arm, message):
    with pytest.raises(UsageError, match=message):
        read_arm(arm, optimizer)


@pytest.mark.parametrize(
    ("horizon", "label"), [(0.0, "s=0"), (1, "s=1"), (10.0, "s=10"), (0.25, "s=0.25")]
)
def test_horizons_have_short_labels(horizon, label):
    assert horizon_label(horizon) == label
