"""Data-parallel training with late gradients; see ``test_delayed_devices.py``."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from distributed_worker import join
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding
from sharded_mlp import place

import xgrad_optax
from xgrad_optax import delayed, pending_specs, spread_pending

P = PartitionSpec
DELAY, STEPS = 2, 8


def make_params():
    rng = np.random.default_rng(0)
    return {
        "w": rng.normal(size=(8, 16)).astype(np.float32) / 3,
        "v": rng.normal(size=(16, 8)).astype(np.float32) / 4,
    }


def make_batch(step):
    return np.random.default_rng(1000 + step).normal(size=(16, 8)).astype(np.float32)


def loss_fn(params, batch):
    outputs = jnp.tanh(batch @ params["w"]) @ params["v"]
    return jnp.mean((outputs - batch[:, ::-1]) ** 2)


def mean(grads):
    return jax.lax.pmean(grads, "data")


def prediction():
    return xgrad_optax.adamw(1e-2, s=DELAY + 1)


def train_step(pair, params, opt_state, batch):
    predicted = pair.lookahead_params(params, opt_state)
    grads = jax.grad(loss_fn)(predicted, batch)
    updates, opt_state = pair.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


class Parallel:
    """Training on some of the devices, each with its own gradients in flight."""

    def __init__(self, devices=None, **options):
        self.mesh = jax.make_mesh((devices or jax.device_count(),), ("data",))
        self.pair = delayed(prediction(), DELAY, reduce=mean, **options)
        specs = pending_specs(jax.eval_shape(self.pair.init, make_params()), "data")
        self.placing = jax.tree.map(
            functools.partial(NamedSharding, self.mesh),
            (jax.tree.map(lambda _: P(), make_params()), specs),
        )
        shard_map = functools.partial(jax.shard_map, mesh=self.mesh, check_vma=False)
        self.init = jax.jit(shard_map(self.pair.init, in_specs=P(), out_specs=specs))
        step = functools.partial(train_step, self.pair)
        self.step = jax.jit(
            shard_map(step, in_specs=(P(), specs, P("data")), out_specs=(P(), specs))
        )

    def start(self):
        params = jax.tree.map(lambda p: place(p, self.mesh, P()), make_params())
        return params, self.init(params)

    def train(self, state, steps=range(STEPS)):
        for t in steps:
            state = self.step(*state, place(make_batch(t), self.mesh, P("data")))
        return state


def trained(run, state, steps=range(STEPS)):
    """The parameters after training, as NumPy arrays; they are the same on every device."""
    params, _ = run.train(state, steps)
    return jax.tree.map(lambda p: np.asarray(p.addressable_data(0)), params)


def train_together(port, processes, process, options):
    """Trains on the devices of all processes."""
    join(port, processes, process, initialization_timeout=60)
    run = Parallel(**options)
    found = jax.device_count(), trained(run, run.start())
    jax.distributed.shutdown()
    return found


def train_with_a_queue():
    """The same on one device, whole batches, with a plain list for a queue."""
    pair = prediction()
    params, queue = make_params(), []
    opt_state = pair.init(params)
    for t in range(STEPS):
        predicted = pair.lookahead_params(params, opt_state)
        queue.append(jax.grad(loss_fn)(predicted, make_batch(t)))
        if len(queue) > DELAY:
            updates, opt_state = pair.update(queue.pop(0), opt_state, params)
            params = optax.apply_updates(params, updates)
    return jax.tree.map(np.asarray, params)


def train_in_flight_with_queues(workers):
    """Each worker predicts with its own queue; by hand, without `delayed`."""
    inner = optax.adamw(1e-2)
    params, queues = make_params(), [[] for _ in range(workers)]
    opt_state = inner.init(params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    for t in range(STEPS):
        for queue, part in zip(queues, np.split(make_batch(t), workers), strict=True):
            predicted, state = params, opt_state
            for grads in [*queue, zeros] if queue else []:
                updates, state = inner.update(grads, state, predicted)
                predicted = optax.apply_updates(predicted, updates)
            queue.append(jax.grad(loss_fn)(predicted, part))
        if len(queues[0]) > DELAY:
            oldest = [queue.pop(0) for queue in queues]
            grads = jax.tree.map(lambda *g: sum(g) / workers, *oldest)
            updates, opt_state = inner.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
    return jax.tree.map(np.asarray, params)


def save_and_go_on(directory):
    """Saves with gradients in flight; returns where training without the interruption ends."""
    run = Parallel()
    middle = run.train(run.start(), range(4))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory, middle)
    return trained(run, middle, range(4, STEPS))


def restore_and_go_on(directory, devices):
    """Restores onto this number of devices what was saved on four."""
    run = Parallel(devices)
    if devices == 4:
        template = jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            jax.eval_shape(run.start),
            run.placing,
        )
        with ocp.StandardCheckpointer() as checkpointer:
            return trained(run, checkpointer.restore(directory, template), range(4, STEPS))
    alone = SingleDeviceSharding(jax.devices()[0])
    template = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=alone),
        jax.eval_shape(Parallel(4).start),
    )
    with ocp.StandardCheckpointer() as checkpointer:
        params, opt_state = checkpointer.restore(directory, template)
    state = jax.device_put((params, spread_pending(opt_state, 4, onto=devices)), run.placing)
    return trained(run, state, range(4, STEPS))


def gradients_summed_by_jax():
    """Parameters that the types call the same everywhere: JAX sums their gradients at once."""
    run = Parallel()
    specs = pending_specs(jax.eval_shape(run.pair.init, make_params()), "data")
    step = functools.partial(train_step, run.pair)
    typed = jax.shard_map(
        step, mesh=run.mesh, in_specs=(P(), specs, P("data")), out_specs=(P(), specs)
    )
    try:
        typed(*run.start(), place(make_batch(0), run.mesh, P("data")))
    except ValueError as error:
        return str(error)


def train_where_types_say_what_varies():
    """With ``check_vma=True``, at a point that is cast to varying."""
    run = Parallel()

    def step(params, opt_state, batch):
        predicted = run.pair.lookahead_params(params, opt_state)
        if hasattr(jax.lax, "pcast"):
            predicted = jax.lax.pcast(predicted, "data", to="varying")
        else:  # JAX 0.8
            predicted = jax.lax.pvary(predicted, "data")
        grads = jax.grad(loss_fn)(predicted, batch)
        updates, opt_state = run.pair.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    specs = pending_specs(jax.eval_shape(run.pair.init, make_params()), "data")
    run.step = jax.jit(
        jax.shard_map(step, mesh=run.mesh, in_specs=(P(), specs, P("data")), out_specs=(P(), specs))
    )
    return trained(run, run.start())
