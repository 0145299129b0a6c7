"""What ``test_sharding.py`` measures, on eight devices."""

import collections
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimizers_under_test as table
from sharded_mlp import (
    AXIS_TYPES,
    LAYOUTS,
    OPTIMIZERS,
    P,
    drop_in,
    explicit,
    make_batch,
    make_mesh,
    make_params,
    plain,
)

from xgrad_optax import diagnostics

# --------------------------------------------------------------------------------------------------
# Types: shape, dtype and partition
# --------------------------------------------------------------------------------------------------


def changed_types(layout_name):
    """Which types do not stay, for each optimizer of the table and each form.

    Returns a dictionary ``(optimizer, form) -> list`` of what changed, or the name of the exception
    that tracing the train step raised.
    """
    layout = LAYOUTS[layout_name]
    loops = {"plain": table.plain, **table.FORMS}
    mesh = make_mesh(layout)
    with jax.set_mesh(mesh):
        params = make_params(layout, mesh)
        return {
            (row.name, form): _changes_or_error(make_loop(row), params)
            for row in table.OPTIMIZERS
            for form, make_loop in loops.items()
        }


def _changes_or_error(loop, params):
    try:
        return _changes(loop, params)
    except Exception as error:
        return type(error).__name__


def _changes(loop, params):
    state = loop.tx.init(params)
    next_params, next_state, updates = _traced(loop.step, params, state)
    point = _traced(loop.locate, params, state)
    traced_init = _traced(loop.tx.init, params)
    expected_and_found = {
        "params": (params, next_params),
        "updates": (params, updates),
        "θ": (params, point.base),
        "θ̂": (params, point.predicted),
        "state": (state, next_state),
        "state made by a traced init": (state, traced_init),
    }
    return [name for name, (old, new) in expected_and_found.items() if types(old) != types(new)]


def _traced(function, *args):
    """The types of what ``function`` returns, in its structure, without compiling it."""
    jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    return jax.tree.unflatten(jax.tree.structure(shapes), jaxpr.out_avals)


def types(tree):
    """The types of arrays, or of avals, by key path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): _type(leaf) for path, leaf in leaves}


def _type(leaf):
    aval = jax.typeof(leaf) if isinstance(leaf, jax.Array) else leaf
    return aval.shape, str(aval.dtype), str(aval.sharding.spec)


# --------------------------------------------------------------------------------------------------
# Collectives
# --------------------------------------------------------------------------------------------------

COLLECTIVE = re.compile(
    r" = (?P<result>.*?) (?P<operation>all-reduce|all-gather|all-to-all|reduce-scatter"
    r"|collective-permute|collective-broadcast|ragged-all-to-all)(-start)?\("
    r".*?(?P<groups>(replica_groups|source_target_pairs)=\S+)"
)
ARRAY = re.compile(r"\w+\[[\d,]*\]")


def collectives(program):
    """Each array that the compiled program communicates, counted by operation and devices.

    XLA may send several arrays with one operation; that is its own choice, so arrays are counted.
    """
    return collections.Counter(
        (match["operation"], array, match["groups"])
        for match in COLLECTIVE.finditer(program.as_text())
        for array in ARRAY.findall(match["result"])
    )


class Workbench:
    """Compiles train steps for one layout; to be used under ``jax.set_mesh(self.mesh)``."""

    def __init__(self, layout_name, axis_types, mesh_shape=None):
        self.layout = LAYOUTS[layout_name]
        self.mesh = make_mesh(self.layout, mesh_shape, AXIS_TYPES[axis_types])
        self.batch = make_batch(0, self.mesh)

    def compile(self, form, dtype=jnp.float32):
        """The compiled train step and the params and state that it was compiled for."""
        params = make_params(self.layout, self.mesh, dtype)
        state = form.tx.init(params)
        program = jax.jit(form.step(self.layout)).lower(params, state, self.batch).compile()
        return program, params, state

    def collectives(self, form):
        program, _, _ = self.compile(form)
        return collectives(program)

    def moved(self, program, params, state):
        """Arrays that lie elsewhere after two steps; the second must accept the first's results."""
        start = (params, state)
        end = start
        for _ in range(2):
            end = program(*end, self.batch)
        leaves = jax.tree_util.tree_leaves_with_path(start)
        return [
            jax.tree_util.keystr(path)
            for (path, old), new in zip(leaves, jax.tree.leaves(end), strict=True)
            if not (old.sharding.is_equivalent_to(new.sharding, new.ndim) and new.committed)
            or jax.typeof(old) != jax.typeof(new)
        ]


def compare_with_plain_step(layout_name, axis_types, optimizer_name):
    """Collectives of the plain step, and of each form those collectives and what moved."""
    optimizer = OPTIMIZERS[optimizer_name]
    bench = Workbench(layout_name, axis_types)
    with jax.set_mesh(bench.mesh):
        expected = bench.collectives(plain(optimizer.make()))
        found = {}
        for name, form in optimizer.forms().items():
            program, params, state = bench.compile(form)
            found[name] = (collectives(program), bench.moved(program, params, state))
    return expected, found


def compare_with_gathered_prediction():
    """The collectives of a train step, and those of one that puts the whole θ̂ on every device."""
    bench = Workbench("fully_sharded", "explicit_axes")
    form = OPTIMIZERS["sgdm"].forms()["drop_in-last_update"]

    def wasteful_update(updates, state, params):
        updates, state = form.tx.update(updates, state, params)
        gathered = jax.tree.map(lambda u: jax.sharding.reshard(u, P()), updates)
        scattered = jax.tree.map(
            lambda g, u: jax.sharding.reshard(g, jax.typeof(u).sharding), gathered, updates
        )
        return scattered, state

    wasteful_tx = form.tx._replace(update=wasteful_update)
    with jax.set_mesh(bench.mesh):
        return bench.collectives(form), bench.collectives(form._replace(tx=wasteful_tx))


# --------------------------------------------------------------------------------------------------
# Master copies
# --------------------------------------------------------------------------------------------------


def types_with_master_copy():
    """Types before and after a step: of bfloat16 parameters, their float32 copies and moments."""
    bench = Workbench("two_dimensional", "explicit_axes")
    form = drop_in(optax.adamw(0.01), OPTIMIZERS["adamw"].closed_form(), base_dtype=jnp.float32)

    def measure(params, state):
        moments = state.inner_state[0]
        return [types(tree) for tree in (params, form.base(params, state), moments.mu, moments.nu)]

    with jax.set_mesh(bench.mesh):
        program, params, state = bench.compile(form, jnp.bfloat16)
        return measure(params, state), measure(*program(params, state, bench.batch))


# --------------------------------------------------------------------------------------------------
# Diagnostics
# --------------------------------------------------------------------------------------------------


class MeasuredError(NamedTuple):
    """What measuring prediction errors does on a mesh.

    Attributes:
      moved: key paths of arrays that lie elsewhere after two steps.
      specs: how the buffers of the parameters are partitioned.
      added: arrays that only the step with a measurement communicates.
      errors: relative errors after some steps.
    """

    moved: list
    specs: dict
    added: collections.Counter
    errors: np.ndarray


def measure_prediction_error(layout_name, axis_types, kind):
    """Trains sgdm with a measurement on eight devices, and on one."""
    return tuple(_train_measured(layout_name, axis_types, kind, shape) for shape in (None, (1, 1)))


def _train_measured(layout_name, axis_types, kind, mesh_shape):
    optimizer = OPTIMIZERS["sgdm"]
    bench = Workbench(layout_name, axis_types, mesh_shape)
    form = explicit(optimizer.make(), optimizer.predictors()[kind])
    measure = diagnostics.prediction_error((1, 3))
    plain_step = form.step(bench.layout)

    def init(params):
        opt_state = form.tx.init(params)
        return opt_state, measure.init(params, opt_state)

    def step(params, state, batch):
        params, opt_state = plain_step(params, state[0], batch)
        return params, (opt_state, measure.update(state[1], params, opt_state))

    with jax.set_mesh(bench.mesh):
        params = make_params(bench.layout, bench.mesh)
        end = start = (params, init(params))
        program = jax.jit(step).lower(*start, bench.batch).compile()
        for _ in range(6):
            end = program(*end, bench.batch)
        _, errors = end[1]
        return MeasuredError(
            moved=bench.moved(program, *start),
            specs={name: tuple(ring.sharding.spec) for name, ring in errors.params.items()},
            added=collectives(program) - bench.collectives(form),
            errors=np.asarray(measure.summary(errors).overall.relative_error),
        )
