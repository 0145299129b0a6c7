"""Training that is saved, killed and resumed; see ``test_restarts.py``."""

import hashlib
import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from sharded_mlp import LAYOUTS, OPTIMIZERS, make_batch, make_mesh, make_params
from sharding_worker import types

from xgrad_optax import xgrad

# --------------------------------------------------------------------------------------------------
# Sharded train states
# --------------------------------------------------------------------------------------------------

LAYOUT = LAYOUTS["two_dimensional"]


class Run:
    """Training of one form on one mesh, and its one checkpoint."""

    def __init__(self, optimizer, form, mesh_shape, directory):
        self.form = OPTIMIZERS[optimizer].forms()[form]
        self.mesh = make_mesh(LAYOUT, mesh_shape)
        self.step = jax.jit(self.form.step(LAYOUT))
        self.directory = Path(directory)

    def start(self):
        params = make_params(LAYOUT, self.mesh)
        return params, jax.jit(self.form.tx.init)(params)

    def train(self, state, steps):
        for t in steps:
            state = self.step(*state, make_batch(t, self.mesh))
        return state

    def save(self, state):
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(self.directory, state)

    def restore(self):
        template = jax.tree.map(ocp.utils.to_shape_dtype_struct, self.start())
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(self.directory, template)


def train_and_save(optimizer, form, mesh_shape, directory):
    """Trains six steps and saves after three; returns the values at both moments."""
    run = Run(optimizer, form, mesh_shape, directory)
    with jax.set_mesh(run.mesh):
        middle = run.train(run.start(), range(3))
        run.save(middle)
        return as_numpy(middle), as_numpy(run.train(middle, range(3, 6)))


def restore_and_train(optimizer, form, mesh_shape, directory):
    """The second half of it; returns values at both moments, and whether all types are right."""
    run = Run(optimizer, form, mesh_shape, directory)
    with jax.set_mesh(run.mesh):
        restored = run.restore()
        return (
            as_numpy(restored),
            as_numpy(run.train(restored, range(3, 6))),
            types(restored) == types(run.start()),
        )


def as_numpy(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


# --------------------------------------------------------------------------------------------------
# Interrupted saves
# --------------------------------------------------------------------------------------------------


# The drop-in form, with a horizon that has a step count of its own.
TX = xgrad(optax.adamw(0.05), s=optax.linear_schedule(2.0, 0.5, 100))


def make_state():
    """A small train state, placed as a restored one is, so that both run the same program."""
    return jax.device_put(_make_state(), jax.devices()[0])


@jax.jit
def _make_state():
    params = jnp.array([[1.0, -0.5], [0.25, 2.0]])
    return {"step": jnp.zeros([], jnp.int32), "params": params, "opt_state": TX.init(params)}


@jax.jit
def train_step(state):
    """One step, with a gradient that depends on the parameters and on the step."""
    params = state["params"]
    grads = params - jnp.sin(state["step"].astype(jnp.float32))
    updates, opt_state = TX.update(grads, state["opt_state"], params)
    params = optax.apply_updates(params, updates)
    return {"step": state["step"] + 1, "params": params, "opt_state": opt_state}


def train_and_save_each_step(directory, last_step=None):
    """Goes on from the latest checkpoint, forever unless ``last_step`` is given.

    Writes to the journal beside the directory from where it goes on, and which saves are complete.
    Returns the last state's digest.
    """
    directory = Path(directory)
    state = make_state()
    jax.block_until_ready(train_step(state))  # compiled before the journal says "resumed"
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    with ocp.CheckpointManager(directory, options=options) as manager:
        if (latest := manager.latest_step()) is not None:
            template = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
            state = manager.restore(latest, args=ocp.args.StandardRestore(template))
        first = int(state["step"])
        write_journal(directory, "resumed", first, digest(state))
        for step in itertools.count(first + 1):
            if step - 1 == last_step:
                break
            state = train_step(state)
            manager.save(step, args=ocp.args.StandardSave(state))  # waits for the save before it
            if step > first + 1:
                write_journal(directory, "complete", step - 1)
    return digest(state)


def digests(last_step):
    """The digest of the state at each step of a run that nobody interrupts."""
    states = itertools.accumulate(
        range(last_step), lambda s, _: train_step(s), initial=make_state()
    )
    return [digest(state) for state in states]


def digest(state):
    """A fingerprint of every bit of the state."""
    content = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        content.update(np.asarray(leaf).tobytes())
    return content.hexdigest()


def write_journal(directory, event, step, state_digest=None):
    """Appends one entry; what is written survives the process."""
    with _journal(directory).open("ab", buffering=0) as file:
        file.write(json.dumps([event, step, state_digest]).encode() + b"\n")


def read_journal(directory):
    """All entries ``(event, step, digest of the state or None)``."""
    path = _journal(directory)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def _journal(directory):
    return Path(directory).with_suffix(".journal")
