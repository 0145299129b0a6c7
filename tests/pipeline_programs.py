"""Programs of pipelines, and their runs with checkpoints."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from small_pipeline import (
    CUT,
    OnDevices,
    adamw_uniform,
    batch_of,
    block,
    enter,
    loss,
    make_batches,
    make_params,
)

from experiments.training import gpipe, pipeline, pipeline_loop
from experiments.training.pipeline import PREDICTED, STASH, Cut, Pipeline


def started(stages, data, backward=STASH):
    """Compiled ticks, three a call, and the beginning."""
    built = Pipeline(CUT, stages, adamw_uniform(stages), batch_of, backward)
    where = OnDevices(stages)
    begin = jax.jit(where.place(functools.partial(pipeline.begin, built)))
    three = jax.jit(where.place(functools.partial(pipeline.ticks, built, number=3)))
    return three, begin(data, where.put(make_params(stages)))


def collectives(stages):
    """The opcodes of communication in the compiled program of some ticks."""
    ticks, beginning = started(stages, make_batches())
    text = ticks.lower(make_batches(), beginning).compile().as_text()
    opcodes = r"\s((?:all|collective|ragged|reduce-scatter|send|recv)[a-z-]*)\("
    return re.findall(opcodes, text)


def kept_bytes(stages):
    """By whether weights are stashed: bytes of a device's rings, of an input, of its weights."""

    def size(tree):
        return sum(leaf.addressable_data(0).nbytes for leaf in jax.tree.leaves(tree))

    found = {}
    for backward in (STASH, PREDICTED):
        _, beginning = started(stages, make_batches(), backward)
        rings = beginning.inputs, beginning.weights
        sizes = size(rings), size(beginning.arrived), size(beginning.params)
        found[backward == STASH] = sizes
    return found


def flushed_program(stages, micro_batches):
    """The lengths of the two loops of GPipe's step, and how many inputs go between them."""
    built = Pipeline(CUT, stages, adamw_uniform(stages), batch_of)
    data, params = make_batches(), make_params(stages)

    def step(data, params):
        return gpipe.step(built, micro_batches, data, gpipe.begin(built, data, params))

    jaxpr = jax.make_jaxpr(pipeline.on_one_device(stages, step))(data, params)
    forward, backward = (eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan")
    (kept,) = set(forward.outvars) & set(backward.invars)
    return [loop.params["length"] for loop in (forward, backward)], kept.aval.shape[1]


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


def products_under_permutes(target, stages, layers, backward):
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

    square = (2048, 2048)
    params = {"enter": shape(split, stages, *square), "leave": shape(split, stages, 2048, 128)}
    params |= {name: shape(split, stages, layers, *square) for name in ("in", "out")}
    data = {"x": shape(everywhere, 8, 4096, 2048), "y": shape(everywhere, 8, 4096, 128)}
    cut = Cut(enter, several_blocks, loss)
    built = Pipeline(cut, stages, adamw_uniform(stages), batch_of, backward)
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
