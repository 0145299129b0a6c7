"""A small model in stages, optimizers that know their stage, and where the stages run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

import xgrad_optax
from experiments.training import pipeline
from experiments.training.pipeline import Cut

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
