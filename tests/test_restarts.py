"""Saving and resuming through Orbax, with and without prediction, killed or not."""

import random
import signal
import time

import chex
import isolated
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import restarts_worker
from isolated import Child
from optimizers_under_test import NAMED, RATE, gradient, relaxed, small_params
from sharded_mlp import TYPICAL

import xgrad_optax
from xgrad_optax import base_params, predictors, with_weight_prediction, xgrad


def assert_same_bits(actual, expected):
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
    chex.assert_trees_all_equal(*jax.tree.map(as_bytes, (actual, expected)))


def as_bytes(leaf):
    return np.atleast_1d(leaf).view(np.uint8)


# --------------------------------------------------------------------------------------------------
# Sharded train states
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("optimizer", "form"), TYPICAL, ids=["-".join(case) for case in TYPICAL])
def test_sharded_run_resumes_bit_for_bit_and_on_other_meshes(optimizer, form, tmp_path):
    def run(function, mesh_shape):
        devices = int(np.prod(mesh_shape))
        arguments = (optimizer, form, mesh_shape, tmp_path / "checkpoint")
        return isolated.run(function, *arguments, devices=devices)

    middle, end = run(restarts_worker.train_and_save, (4, 2))
    restored, resumed_end, same_types = run(restarts_worker.restore_and_train, (4, 2))
    assert same_types
    assert_same_bits(restored, middle)
    assert_same_bits(resumed_end, end)
    assert any(np.any(a != b) for a, b in zip(middle, end, strict=True))

    for other_shape in [(2, 4), (1, 1)]:
        restored, resumed_end, same_types = run(restarts_worker.restore_and_train, other_shape)
        assert same_types
        assert_same_bits(restored, middle)
        # Sums are taken in another order from here on.
        jax.tree.map(lambda r, e: np.testing.assert_allclose(r, e, atol=1e-6), resumed_end, end)


# --------------------------------------------------------------------------------------------------
# Checkpoints of plain Optax
# --------------------------------------------------------------------------------------------------


def through_checkpoint(tree, path, like=None):
    """What a later process would read back into the structure of ``like``, by default the same."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
        checkpointer.wait_until_finished()
        return checkpointer.restore(path, jax.eval_shape(lambda: tree if like is None else like))


def train(tx, params, state, steps, point=lambda params, state: params):
    """``(params, state)`` after some steps with the gradient at ``point``."""
    for _ in range(steps):
        updates, state = tx.update(gradient(point(params, state)), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def plain_checkpoint(tx, path):
    params = small_params()
    return through_checkpoint(train(tx, params, tx.init(params), 3), path)


NEEDS_MEMORY = {"rmsprop"}
CLOSED_FORM = [named for named in NAMED if named.name not in NEEDS_MEMORY]
EACH_CLOSED_FORM = pytest.mark.parametrize("named", CLOSED_FORM, ids=[n.name for n in CLOSED_FORM])


@EACH_CLOSED_FORM
def test_named_optimizer_goes_on_from_plain_checkpoint_and_back(named, tmp_path):
    plain = relaxed(named.namesake(RATE))
    lookahead_params, tx = named.predicted(RATE, 0)
    checkpoint = plain_checkpoint(plain, tmp_path / "plain")

    params, state = train(tx, *checkpoint, 2, lookahead_params)
    params, inner_state = through_checkpoint((params, state.inner_state), tmp_path / "off")
    assert_same_bits(train(plain, params, inner_state, 2), train(plain, *checkpoint, 4))


@EACH_CLOSED_FORM
def test_named_optimizer_predicts_at_once_from_plain_checkpoint(named, tmp_path):
    lookahead_params, tx = named.predicted(RATE, 1.5)
    params, plain_state = plain_checkpoint(relaxed(named.namesake(RATE)), tmp_path / "plain")
    converted = tx.init(params)._replace(inner_state=plain_state)

    predicted = lookahead_params(params, plain_state)
    assert all(np.all(predicted[name] != params[name]) for name in params)
    assert_same_bits(predicted, lookahead_params(params, converted))
    assert_same_bits(
        train(tx, params, plain_state, 2, lookahead_params),
        train(tx, params, converted, 2, lookahead_params),
    )


def as_held(params, state):
    del state
    return params


def explicit(plain, s, predictor):
    point, tx = with_weight_prediction(plain, s, predictor=predictor)
    return tx, point, as_held


def drop_in(plain, s, predictor):
    return xgrad(plain, s, predictor=predictor), as_held, base_params


def last_update(plain, updates, state, params):
    del plain, state, params
    return updates


def rollout(plain, updates, state, params):
    return plain.update(jax.tree.map(np.zeros_like, updates), state, params)[0]


def train_by_hand(plain, params, state, s, predict):
    """Three steps of XGrad's Algorithm 1 for whole s, first of all without a prediction."""
    prediction = jax.tree.map(np.zeros_like, params)
    for _ in range(3):
        point = jax.tree.map(lambda p, d: p + s * d, params, prediction)
        updates, state = plain.update(gradient(point), state, params)
        params = optax.apply_updates(params, updates)
        prediction = predict(plain, updates, state, params)
    return params, state


PLAIN = {
    "sgd": lambda: optax.sgd(RATE),
    "adam": lambda: optax.adam(RATE),
    "adamw": lambda: optax.adamw(RATE),
    "rmsprop": lambda: optax.rmsprop(RATE),
}
PREDICTORS = {
    "last_update": (predictors.last_update(), last_update),
    "zero_gradient": (predictors.zero_gradient(), rollout),
}


@pytest.mark.parametrize("s", [0, 1])
@pytest.mark.parametrize("form", [explicit, drop_in])
@pytest.mark.parametrize(("predictor", "predict"), PREDICTORS.values(), ids=PREDICTORS)
@pytest.mark.parametrize("plain", PLAIN.values(), ids=PLAIN)
def test_other_predictors_go_on_after_conversion_and_back(
    plain, predictor, predict, form, s, tmp_path
):
    plain = relaxed(plain())
    params, plain_state = checkpoint = plain_checkpoint(plain, tmp_path / "plain")

    tx, point, base = form(plain, s, predictor)
    state = tx.init(params)._replace(inner_state=plain_state)  # as docs/checkpoints.md has it
    params, state = train(tx, params, state, 3, point)
    found = through_checkpoint((base(params, state), state.inner_state), tmp_path / "off")

    expected = train_by_hand(plain, *checkpoint, s, predict)
    if s == 0:
        assert_same_bits(expected, train(plain, *checkpoint, 3))
        assert_same_bits(found, expected)
    else:
        chex.assert_trees_all_close(found, expected, rtol=1e-6)
    # The plain optimizer takes it from here.
    chex.assert_trees_all_equal_shapes_and_dtypes(train(plain, *found, 1), checkpoint)


def test_rmsprop_asks_for_the_conversion_because_it_needs_memory(tmp_path):
    tx = xgrad_optax.rmsprop(RATE).tx
    params, plain_state = plain_checkpoint(relaxed(optax.rmsprop(RATE)), tmp_path / "plain")
    with pytest.raises(ValueError, match=r"tx\.init\(params\).*fill the `inner_state`"):
        tx.update(params, plain_state, params)


# --------------------------------------------------------------------------------------------------
# Hyperparameters and documentation
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [explicit, drop_in])
def test_a_number_s_comes_from_the_code_and_may_change_with_a_restart(form, tmp_path):
    params = small_params()
    tx, point, _ = form(relaxed(optax.sgd(RATE)), 1, predictors.last_update())
    checkpoint = train(tx, params, tx.init(params), 3, point)

    tx, point, _ = form(relaxed(optax.sgd(RATE)), 2, predictors.last_update())
    restored = through_checkpoint(checkpoint, tmp_path / "s=1", (params, tx.init(params)))
    chex.assert_trees_all_equal_structs(restored, (params, tx.init(params)))
    train(tx, *restored, 1, point)


@pytest.mark.parametrize("form", [explicit, drop_in])
def test_an_injected_s_comes_from_the_checkpoint(form, tmp_path):
    @optax.inject_hyperparams
    def make(s):
        return form(relaxed(optax.sgd(RATE)), s, predictors.last_update())[0]

    tx, params = relaxed(make(s=1.0)), small_params()
    state = tx.init(params)
    state.hyperparams["s"] = np.float32(2.5)
    restored = through_checkpoint(state, tmp_path / "state", make(s=1.0).init(params))
    updates, restored = tx.update(params, restored, params)
    assert restored.hyperparams["s"] == 2.5
    held = optax.apply_updates(params, updates)
    ahead, behind = (
        (xgrad_optax.lookahead_params(held, restored), held)
        if form is explicit
        else (held, xgrad_optax.base_params(held, restored))
    )
    for p, q, b in zip(*map(jax.tree.leaves, (params, ahead, behind)), strict=True):
        np.testing.assert_allclose(q - b, -2.5 * RATE * p, rtol=1e-4, atol=1e-7)


# --------------------------------------------------------------------------------------------------
# Interrupted saves
# --------------------------------------------------------------------------------------------------

KILLS = 24
PATIENCE = 120  # seconds; only a run that hangs takes longer


def test_killed_runs_resume_from_the_latest_complete_checkpoint(tmp_path):
    directory = tmp_path / "run"
    rng = random.Random(0)
    unfinished = set()
    for attempt in range(KILLS):
        newest = newest_checkpoint(directory)
        journal = restarts_worker.read_journal(directory)
        complete = completed_steps(directory)
        with Child(restarts_worker.train_and_save_each_step, directory) as run:
            if attempt % 3:  # while it trains and saves
                steps = len(complete) + rng.randint(1, 3)
                wait_until(lambda steps=steps: len(completed_steps(directory)) >= steps, run)
                time.sleep(rng.uniform(0, 0.15))
            else:  # while it starts, restores and saves for the first time
                time.sleep(rng.uniform(0, 1))
            run.kill()
            assert run.exit_code(PATIENCE) == -signal.SIGKILL, run.log()
        for event, step, _ in restarts_worker.read_journal(directory)[len(journal) :]:
            assert step == newest or event != "resumed"
        unfinished |= {path.name for path in directory.glob("*") if not path.name.isdigit()}
    assert len(unfinished) > KILLS / 4, "too few kills struck a save"

    last_step = completed_steps(directory)[-1] + 5
    last_digest = isolated.run(restarts_worker.train_and_save_each_step, directory, last_step)
    digests = isolated.run(restarts_worker.digests, last_step)
    assert last_digest == digests[last_step]
    assert_each_start_was_right(restarts_worker.read_journal(directory), digests)


def newest_checkpoint(directory):
    """Orbax gives a checkpoint its final name when it is complete."""
    return max((int(path.name) for path in directory.glob("*") if path.name.isdigit()), default=0)


def completed_steps(directory):
    """Those that the runs saw completed; the last one or two may be missing."""
    journal = restarts_worker.read_journal(directory)
    return [step for event, step, _ in journal if event == "complete"]


def wait_until(condition, run):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, run.log()
        assert run.exit_code(timeout=0.005) is None, run.log()


def assert_each_start_was_right(journal, digests):
    """Nothing that was complete is lost, and what is restored is right in every bit."""
    complete, starts = 0, 0
    for event, step, digest in journal:
        if event == "resumed":
            starts += 1
            assert step >= complete
            assert digest == digests[step]
        else:
            complete = step
    assert starts > KILLS / 2
