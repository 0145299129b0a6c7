"""One process of several that train together; see ``test_distributed.py``."""

import itertools
import os

import jax
import numpy as np
from jax.experimental import multihost_utils
from sharded_mlp import LAYOUTS, OPTIMIZERS, TYPICAL, make_batch, make_mesh, make_params

STEPS = 5
VICTIM_EXIT_CODE = 9


def join(port, processes, process, **timeouts):
    """Connects to the other processes."""
    jax.distributed.initialize(
        f"127.0.0.1:{port}", num_processes=processes, process_id=process, **timeouts
    )


def train_together(port, processes, process, layout_name):
    """Trains on the devices of all processes; returns their number and the trajectories."""
    join(port, processes, process, initialization_timeout=60)
    trajectories = train(layout_name)
    jax.distributed.shutdown()
    return trajectories


def train(layout_name):
    """As ``train_together``, for a process that is alone."""
    layout = LAYOUTS[layout_name]
    mesh = make_mesh(layout)
    with jax.set_mesh(mesh):
        return jax.device_count(), {
            (optimizer, form): trajectory(OPTIMIZERS[optimizer].forms()[form], layout, mesh)
            for optimizer, form in TYPICAL
        }


def trajectory(form, layout, mesh):
    """θ and θ̂ after each step, as NumPy arrays."""
    params = make_params(layout, mesh)
    opt_state = jax.jit(form.tx.init)(params)
    step = jax.jit(form.step(layout))
    points = []
    for t in range(STEPS):
        params, opt_state = step(params, opt_state, make_batch(t, mesh))
        both = (form.base(params, opt_state), form.point(params, opt_state))
        points.append(multihost_utils.process_allgather(both, tiled=True))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *points)


def die_in_the_middle(port, processes, process, victim, heartbeat_timeout):
    """Trains forever, except that the victim vanishes after a few steps."""
    join(port, processes, process, heartbeat_timeout_seconds=heartbeat_timeout)
    layout = LAYOUTS["data_parallel"]
    mesh = make_mesh(layout)
    form = OPTIMIZERS["adamw"].forms()["explicit-closed_form"]
    with jax.set_mesh(mesh):
        params = make_params(layout, mesh)
        opt_state = jax.jit(form.tx.init)(params)
        step = jax.jit(form.step(layout))
        for t in itertools.count():
            params, opt_state = step(params, opt_state, make_batch(t, mesh))
            jax.block_until_ready(params)
            if process == victim and t == 3:
                os._exit(VICTIM_EXIT_CODE)
