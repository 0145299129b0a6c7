"""Pipelines with one stage a device; see ``experiments/training/test_pipeline.py``."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import xgrad_optax
from experiments.training import gpipe, pipeline, pipeline_loop
from experiments.training.pipeline import CURRENT, PREDICTED, STASH, Cut, Pipeline
from tests.compilation import quick_compilation
from tests.reference.pipeline import simulate
from xgrad_optax import delayed

WIDTH, BATCH, MICRO_BATCHES = 6, 4, 24


def enter(params, batch):
    return batch["x"] @ params["enter"]


def block(params, x):
    return x + jnp.tanh(x @ params["in"]) @ params["out"]


def loss(params, x, batch):
    return jnp.mean((x @ params["leave"] - batch["y"]) ** 2)


CUT = Cut(enter, block, loss)


def make_params(stages):
    """Of all stages, with an axis for them in front."""
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return rng.normal(size=(stages, *shape)).astype(np.float32) / 3

    square = (WIDTH, WIDTH)
    return {"enter": drawn(*square), "in": drawn(*square), "out": drawn(*square)} | {
        "leave": drawn(WIDTH, 2)
    }


def make_batches(size=BATCH):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(MICRO_BATCHES, size, WIDTH)).astype(np.float32)
    return {"x": x, "y": np.sin(x[..., :2])}


def batch_of(data, number):
    return jax.tree.map(lambda leaf: leaf[number], data)


def of_stage(tree, stage):
    return jax.tree.map(lambda leaf: leaf[stage], tree)


def sgdm_by_stage(stages):
    """Each stage with the horizon of its own delay."""
    return lambda stage: xgrad_optax.sgdm(0.02, s=2.0 * (stages - 1 - stage))


def adamw_uniform(stages):
    return lambda stage: xgrad_optax.adamw(0.01, s=2.0 * (stages - 1))


def rolled_out(stages):
    """A chain that is opaque to prediction, and a horizon that is rolled out."""
    inner = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.02, momentum=0.8))
    return lambda stage: xgrad_optax.with_weight_prediction(
        inner, 2 * stages - 1, predictor=xgrad_optax.zero_gradient()
    )


def unpredicted(stages):
    return lambda stage: optax.adam(0.01)


CASES = {
    2: [(sgdm_by_stage, STASH), (rolled_out, PREDICTED)],
    4: [(adamw_uniform, STASH), (sgdm_by_stage, PREDICTED), (unpredicted, CURRENT)],
    8: [(sgdm_by_stage, STASH)],
}


class OnDevices:
    """One stage a device."""

    def __init__(self, stages):
        self.mesh = jax.make_mesh((stages,), (pipeline.AXIS,))
        self.place = functools.partial(pipeline.on_devices, self.mesh)

    def put(self, params):
        return jax.device_put(params, NamedSharding(self.mesh, PartitionSpec(pipeline.AXIS)))


class OnOneDevice:
    """All stages on one."""

    def __init__(self, stages):
        self.place = functools.partial(pipeline.on_one_device, stages)
        self.put = lambda params: params


def run(built, ticks, where):
    """The weights after every tick, those of all stages first, and what was seen."""
    data, params = make_batches(), where.put(make_params(built.stages))
    state = jax.jit(where.place(functools.partial(pipeline.begin, built)))(data, params)

    def follow(data, stage):
        def step(stage, _):
            stage, seen = pipeline.tick(built, data, stage)
            return stage, (stage.params, seen)

        return jax.lax.scan(step, stage, length=ticks)[1]

    return jax.tree.map(np.asarray, jax.jit(where.place(follow))(data, state))


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


def collectives(stages):
    """The opcodes of communication in the compiled program of some ticks."""
    built = Pipeline(CUT, stages, adamw_uniform(stages), batch_of, STASH)
    where = OnDevices(stages)
    params = where.put(make_params(stages))
    state = jax.jit(where.place(functools.partial(pipeline.begin, built)))(make_batches(), params)
    several = where.place(functools.partial(pipeline.ticks, built, number=5))
    text = jax.jit(several).lower(make_batches(), state).compile().as_text()
    opcodes = r"\s((?:all|collective|ragged|reduce-scatter|send|recv)[a-z-]*)\("
    return re.findall(opcodes, text)


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

    found, losses = jax.jit(where.place(follow))(data, where.put(params))

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


def started(stages, data, backward=STASH):
    """Compiled ticks, three a call, and the beginning."""
    built = Pipeline(CUT, stages, adamw_uniform(stages), batch_of, backward)
    where = OnDevices(stages)
    begin = jax.jit(where.place(functools.partial(pipeline.begin, built)))
    three = jax.jit(where.place(functools.partial(pipeline.ticks, built, number=3)))
    return three, begin(data, where.put(make_params(stages)))


def everything(stages, losses):
    return jax.tree.map(np.asarray, (stages, np.concatenate(losses)))


def interrupted_and_not(stages, folder):
    """Where a run ends that was stopped with micro-batches in flight, and one that was not."""
    data = make_batches()
    ticks, beginning = started(stages, data)
    whole = pipeline_loop.run(ticks, data, beginning, folder / "whole", 12)
    _, before = pipeline_loop.run(ticks, data, beginning, folder / "parts", 6)
    end, after = pipeline_loop.run(ticks, data, beginning, folder / "parts", 12)
    return everything(*whole), everything(end, before + after)


def broken_stage(stages, folder, victim, tick):
    """What is said when weights of a stage go bad at a tick; where a run from the rest ends."""
    data = make_batches()
    ticks, beginning = started(stages, data)
    expected = pipeline_loop.run(ticks, data, beginning, folder / "whole", 12)

    def spoiling(data, state):
        if state.tick.addressable_data(0)[0] == tick:
            spoiled = np.array(state.params["in"])
            spoiled[victim, 0, 0] = np.nan
            spoiled = jax.device_put(spoiled, state.params["in"].sharding)
            state = state._replace(params=state.params | {"in": spoiled})
        return ticks(data, state)

    message = None
    try:
        pipeline_loop.run(spoiling, data, beginning, folder / "parts", 12)
    except pipeline_loop.StageError as error:
        message = str(error)
    found, _ = pipeline_loop.run(ticks, data, beginning, folder / "parts", 12)
    return message, *jax.tree.map(np.asarray, (found, expected[0]))


def products_under_permutes(target, stages, layers):
    """Compiled for devices that are not there: matrix products between each start and its done."""
    mesh = Mesh(np.array(target.devices()[:stages]), (pipeline.AXIS,))
    split, everywhere = (
        NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((pipeline.AXIS,), ())
    )

    def shape(sharding, *lengths):
        return jax.ShapeDtypeStruct(lengths, jnp.bfloat16, sharding=sharding)

    def several_blocks(params, x):
        for layer in range(layers):
            x = block({"in": params["in"][layer], "out": params["out"][layer]}, x)
        return x

    square = (1024, 1024)
    params = {"enter": shape(split, stages, *square), "leave": shape(split, stages, 1024, 128)}
    params |= {name: shape(split, stages, layers, *square) for name in ("in", "out")}
    data = {"x": shape(everywhere, 8, 2048, 1024), "y": shape(everywhere, 8, 2048, 128)}
    cut = Cut(enter, several_blocks, loss)
    built = Pipeline(cut, stages, adamw_uniform(stages), batch_of, PREDICTED)
    begin, several = (
        pipeline.on_devices(mesh, function)
        for function in (
            functools.partial(pipeline.begin, built),
            functools.partial(pipeline.ticks, built, number=8),
        )
    )
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=split),
        jax.eval_shape(begin, data, params),
    )
    return _products_between(target.compile(jax.jit(several), data, state).as_text())


def _products_between(text):
    """By permute, in the order of the program; that of a loop's body is one line an instruction."""
    lines = text.splitlines()
    found = []
    for first, line in enumerate(lines):
        if start := re.match(r"\s+%(collective-permute-start[\w.]*) =", line):
            done = re.compile(rf" collective-permute-done\(%{re.escape(start[1])}\)")
            last = next(n for n in range(first, len(lines)) if done.search(lines[n]))
            product = re.compile(r"kind=kCustom, calls=%gemm|custom_call_target=\"__cublas")
            found.append(sum(bool(product.search(each)) for each in lines[first:last]))
    return found
