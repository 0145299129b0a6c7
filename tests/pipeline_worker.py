"""Pipelines with one stage a device; see ``experiments/training/test_pipeline.py``."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from small_pipeline import (
    CUT,
    MICRO_BATCHES,
    OnDevices,
    OnOneDevice,
    adamw_uniform,
    batch_of,
    block,
    enter,
    loss,
    make_batches,
    make_params,
    of_stage,
    rolled_out,
    run,
    sgdm_by_stage,
    unpredicted,
)

import xgrad_optax
from experiments.training import gpipe, pipeline
from experiments.training.pipeline import CURRENT, PREDICTED, STASH, Cut, Pipeline
from tests.compilation import quick_compilation
from tests.reference.pipeline import simulate
from xgrad_optax import delayed

CASES = {
    2: [(sgdm_by_stage, STASH), (rolled_out, PREDICTED)],
    4: [(adamw_uniform, STASH), (sgdm_by_stage, PREDICTED), (unpredicted, CURRENT)],
    8: [(sgdm_by_stage, STASH)],
}


def differences_from_version_queues(stages, ticks):
    """The largest of every case, of the run on devices and of that on one device."""
    data, params = make_batches(), make_params(stages)
    batches = [of_stage(data, m) for m in range(MICRO_BATCHES)]
    each = [jax.tree.map(jnp.asarray, of_stage(params, i)) for i in range(stages)]
    found = []
    for make_optimizer, backward in CASES[stages]:
        built = Pipeline(CUT, stages, make_optimizer(stages), batch_of, backward)
        optimizers = [built.optimizer(jnp.int32(i)) for i in range(stages)]
        with quick_compilation():
            updates, losses = simulate(CUT, optimizers, backward, batches, each, ticks)
            for where in (OnDevices, OnOneDevice):
                seen = run(built, ticks, where(stages))
                found.append(_difference(seen, params, updates, losses))
    return found


def _difference(found, before, updates, losses):
    """Weights that no update has touched must be the initial ones, bit for bit."""
    weights, seen = found
    worst = 0.0
    for i, of_worker in enumerate(updates):
        expected = {update.tick: update.params for update in of_worker}
        current = of_stage(before, i)
        for tick in range(len(seen.loss[0])):
            current = expected.get(tick, current)
            here = jax.tree.map(lambda leaf, i=i, tick=tick: leaf[i, tick], weights)
            gaps = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), here, current)
            worst = max(worst, *jax.tree.leaves(gaps))
    last = seen.loss[-1]
    known = np.array([losses.get(t - len(updates) + 1, np.nan) for t in range(len(last))])
    np.testing.assert_allclose(last, known, rtol=0, atol=1e-5)
    assert np.isnan(seen.loss[:-1]).all()
    assert not seen.broken.any()
    return worst


def plain_loop_and_one_stage(make_optimizer, backward):
    """Weights after some steps of a plain loop, and of a pipeline of one stage."""
    data, params, steps = make_batches(), make_params(1), 9
    optimizer = make_optimizer(1)(jnp.int32(0))

    def whole(params, batch):
        return loss(params, block(params, enter(params, batch)), batch)

    @jax.jit
    def trained(params, batches):
        def step(carry, batch):
            params, opt_state = carry
            grads = jax.grad(whole)(pipeline.point(optimizer, params, opt_state), batch)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), batches)[0][0]

    plain = trained(of_stage(params, 0), jax.tree.map(lambda leaf: leaf[:steps], data))
    built = Pipeline(CUT, 1, make_optimizer(1), batch_of, backward)
    found, _ = run(built, steps, OnDevices(1))
    return jax.tree.map(np.asarray, (plain, of_stage(found, (0, -1))))


def leaves_late_on_one_device(stages, steps):
    """``delayed`` by leaf, on the whole model at once; the weights after every step."""
    delays = [2 * (stages - 1 - i) for i in range(stages)]
    prediction = xgrad_optax.adamw(0.01, s=3.0)
    lookahead_params, tx = delayed(prediction, delays)

    def whole(params, batch):
        x = enter(params[0], batch)
        for each in params:
            x = block(each, x)
        return loss(params[-1], x, batch)

    def step(carry, batch):
        params, opt_state = carry
        grads = jax.grad(whole)(lookahead_params(params, opt_state), batch)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        return (params, opt_state), params

    params = [jax.tree.map(jnp.asarray, of_stage(make_params(stages), i)) for i in range(stages)]
    batches = jax.tree.map(lambda leaf: jnp.asarray(leaf[:steps]), make_batches())
    _, late = jax.lax.scan(step, (params, tx.init(params)), batches)
    built = Pipeline(CUT, stages, lambda _: prediction, batch_of)
    weights, _ = run(built, steps + stages - 1, OnDevices(stages))
    # Step t of `delayed` is tick t + i of stage i.
    found = [jax.tree.map(lambda leaf, i=i: leaf[i, i : i + steps], weights) for i in range(stages)]
    return jax.tree.map(np.asarray, (late, found))


def recording():
    """Adds 1 to every weight, and keeps how many updates passed since that of the gradient."""

    def init(params):
        return {"updates": jnp.zeros([], jnp.int32), "late": jnp.zeros([], jnp.int32)}

    def update(grads, state, params):
        late = state["updates"] - jnp.round(grads["version"][0]).astype(jnp.int32)
        updates = jax.tree.map(jnp.ones_like, params)
        return updates, {"updates": state["updates"] + 1, "late": late}

    return optax.GradientTransformation(init, update)


def measured_delays(stages, ticks):
    """By stage and tick: how many updates a gradient's weights are behind; -1 before the first.

    The gradient of Σ θ_i²/2 is the weight that it was taken at, and that counts the updates.
    """
    cut = Cut(
        lambda params, batch: batch,
        lambda params, x: x + params["version"] ** 2 / 2,
        lambda params, x, batch: jnp.sum(x),
    )
    built = Pipeline(cut, stages, lambda _: recording(), lambda data, m: data, STASH)
    where = OnDevices(stages)
    params = where.put({"version": np.zeros((stages, 1), np.float32)})
    data = jnp.zeros(1)

    def follow(data, params):
        def step(stage, _):
            before = stage.opt_state["updates"]
            stage, _ = pipeline.tick(built, data, stage)
            moved = stage.opt_state["updates"] > before
            return stage, jnp.where(moved, stage.opt_state["late"], -1)

        return jax.lax.scan(step, pipeline.begin(built, data, params), length=ticks)[1]

    return np.asarray(jax.jit(where.place(follow))(data, params))


def flushed_and_plain(stages, micro_batches, steps):
    """Weights and losses of GPipe, and of a plain loop over all micro-batches together."""
    data, params = make_batches(), make_params(stages)
    prediction = xgrad_optax.adamw(0.01, s=1.0)
    built = Pipeline(CUT, stages, lambda _: prediction, batch_of)
    where = OnDevices(stages)

    def follow(data, params):
        stage = gpipe.begin(built, data, params)
        stage, losses = gpipe.steps(built, micro_batches, data, stage, steps)
        return stage.params, losses

    with quick_compilation():
        found, losses = jax.jit(where.place(follow))(data, where.put(params))

    @jax.jit
    def whole(params, batch):
        x = enter(of_stage(params, 0), batch)
        for i in range(stages):
            x = block(of_stage(params, i), x)
        return loss(of_stage(params, -1), x, batch)

    params = jax.tree.map(jnp.asarray, params)
    opt_state, expected = prediction.init(params), []
    for k in range(steps):
        part = slice(k * micro_batches, (k + 1) * micro_batches)
        batch = jax.tree.map(lambda leaf, part=part: np.concatenate(leaf[part]), data)
        point = prediction.lookahead_params(params, opt_state)
        value, grads = jax.value_and_grad(whole)(point, batch)
        updates, opt_state = prediction.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        expected.append(float(value))
    return jax.tree.map(np.asarray, ((found, np.asarray(losses)[-1]), (params, np.array(expected))))
