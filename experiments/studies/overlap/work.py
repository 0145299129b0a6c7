"""Builds each step and compiles it for eight devices."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import xgrad_optax
from experiments.compilers.targets import TARGETS
from experiments.progress import Progress
from experiments.studies.overlap.ask import Config, Item, Record
from experiments.studies.overlap.schedule import read_schedule
from xgrad_optax import WeightPrediction, delayed, pending_specs

_AXIS = "data"
_SAME, _SPLIT = PartitionSpec(), PartitionSpec(_AXIS)


def prepare(config: Config, progress: Progress) -> Callable[[Item], list[Record]]:
    """Finds the compiler; returns what compiles one step."""
    del progress  # a step takes seconds
    target = TARGETS[config.target]
    mesh = Mesh(np.array(target.devices()), (_AXIS,))

    def compiled(item: Item) -> list[Record]:
        step, shapes = make_step(config, item, mesh)
        return [_record(item, target.compiler, target.compile(step, *shapes))]

    return compiled


def _record(item: Item, compiler: str, compiled: Any) -> Record:
    schedule = read_schedule(compiled.as_text())
    return Record(
        step=item.step,
        batch_size=item.batch_size,
        compiler=compiler,
        all_reduces=len(schedule.all_reduces),
        of_this_batch=sum(each.needs_batch for each in schedule.all_reduces),
        under_products=schedule.under_products,
        products=len(schedule.products),
        overlapping_products=schedule.overlapping_products,
        temporary=compiled.memory_analysis().temp_size_in_bytes,
        events=schedule.events,
    )


def make_step(config: Config, item: Item, mesh: Mesh) -> tuple[Any, Sequence[Any]]:
    """Returns a jitted data-parallel train step and the shapes of its arguments."""
    prediction = _prediction(config, item.step)
    # Where types say what varies over devices, `delayed` cannot tie the update to the gradients.
    typed = item.step == "untied"

    def step(params: Any, opt_state: Any, batch: jax.Array) -> Any:
        point = prediction.lookahead_params(params, opt_state)
        if typed:
            point = jax.lax.pcast(point, _AXIS, to="varying")
        grads = jax.grad(_loss)(point, batch)
        updates, opt_state = prediction.tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    side = (config.width, config.width)
    params = [jax.ShapeDtypeStruct(side, jnp.float32)] * config.layers
    opt_state = jax.eval_shape(prediction.init, params)
    late = item.step != "synchronous"
    specs = pending_specs(opt_state, _AXIS) if late else jax.tree.map(lambda _: _SAME, opt_state)
    mapped = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(_SAME, specs, _SPLIT),
        out_specs=(_SAME, specs),
        check_vma=typed,
    )
    batch = jax.ShapeDtypeStruct((item.batch_size, config.width), jnp.float32)
    globally = functools.partial(_of_all_devices, mesh=mesh)
    shapes = (
        [globally(param, _SAME) for param in params],
        jax.tree.map(globally, opt_state, specs),
        globally(batch, _SPLIT),
    )
    return jax.jit(mapped, donate_argnums=(0, 1)), shapes


def _prediction(config: Config, step: str) -> WeightPrediction:
    late = step != "synchronous"
    adamw = xgrad_optax.adamw(1e-3, s=config.delay + 1 if late else 0, damped=late)
    delay = config.delay if late else 0
    return delayed(adamw, delay, reduce=_mean, in_flight=step == "in-flight")


def _mean(grads: Any) -> Any:
    return jax.lax.pmean(grads, _AXIS)


def _loss(params: Sequence[jax.Array], batch: jax.Array) -> jax.Array:
    for weights in params:
        batch = jnp.tanh(batch @ weights)
    return jnp.mean(batch**2)


def _of_all_devices(x: Any, spec: PartitionSpec, mesh: Mesh) -> jax.ShapeDtypeStruct:
    """The shape of all devices' arrays together, from that of one."""
    first, *rest = x.shape or (None,)
    shape = x.shape if first is None or spec == _SAME else (first * mesh.size, *rest)
    return jax.ShapeDtypeStruct(shape, x.dtype, sharding=NamedSharding(mesh, spec))
