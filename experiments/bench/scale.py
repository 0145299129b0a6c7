"""The same exact figures for large models on many devices: compiled, never run.

Shapes stand for arrays, so nothing is allocated whatever the size; the transformer loops over its
blocks, so the program does not grow either. Work per device is the same at each number of devices.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.bench.config import SIZES, Placement, ScaleConfig
from experiments.bench.exact import Exact, exact_figures
from experiments.bench.records import ScaleRecord
from experiments.bench.scale_report import caveats, markdown_report, terminal_report
from experiments.bench.steps import make_problem, make_step, sizes_of, start_shapes
from experiments.bench.variants import PLAIN, VARIANTS
from experiments.bench.workloads import BLOCKS, transformer
from experiments.runs import publish, run_all

_DATA, _MODEL = "data", "model"

# Shorter axes are left whole: the blocks of a stack, for one.
_SHORTEST_SPLIT = 64

# Machine code that nobody runs need not be fast; what is counted is decided before it is made.
_QUICK_CODE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def scale(config: ScaleConfig, folder: Path) -> bool:
    """Compiles the transformer of each size on each mesh and writes the report.

    Args:
        config: what to compile; its names and numbers are valid.
        folder: where the results go; exists and holds no results.

    Returns:
        Whether everything finished; False after Ctrl-C, when the report covers what did.
    """
    # Only counts where JAX has not been used yet, as in a fresh process.
    jax.config.update("jax_num_cpu_devices", max(config.devices))
    records, meta = run_all(
        config.placements(),
        lambda placement: count_placement(placement, config),
        name=str,
        noun="meshes",
        folder=folder,
        configuration=config,
    )
    publish(
        folder,
        markdown_report(records, config, meta),
        terminal_report(records) if records else None,
        caveats(records, meta),
    )
    return meta["status"] == "complete"


def count_placement(placement: Placement, config: ScaleConfig) -> list[ScaleRecord]:
    """Compiles all variants of a transformer on one mesh; returns one record for each."""
    mesh = _mesh(placement, max(config.devices))
    programs = {name: _Program(name, placement, config, mesh) for name in config.variants}
    plain = programs[PLAIN]
    sizes = sizes_of(config.optimizer, plain.params, plain.opt_state)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(plain.params))
    doubled = _Program(PLAIN, placement, config, mesh, unroll=2)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # XLA compiles on one core
        (doubled_exact, _), *results = pool.map(_Program.compile, [doubled, *programs.values()])
    counted = dict(zip(programs, results, strict=True))
    step_bytes = _step_bytes(counted[PLAIN][0], doubled_exact)
    return [
        ScaleRecord(
            size=placement.size,
            mesh=placement.mesh,
            devices=placement.devices,
            optimizer=config.optimizer,
            variant=name,
            parameters=parameters,
            params_bytes=sizes.params,
            exact=exact,
            step_bytes=step_bytes,
            floor=floor.of(sizes) if (floor := VARIANTS[name].floor) else None,
            shardings_kept=shardings_kept,
        )
        for name, (exact, shardings_kept) in counted.items()
    ]


def _mesh(placement: Placement, most_devices: int) -> Mesh:
    # One kind of device for all meshes of a run, or they could not be compared.
    devices = jax.devices() if len(jax.devices()) >= most_devices else jax.devices("cpu")
    number = placement.devices
    shape = (number // 2, 2) if placement.layout == "2d" and number > 1 else (number, 1)
    return Mesh(np.array(devices[:number]).reshape(shape), (_DATA, _MODEL))


def _step_bytes(exact: Exact, doubled: Exact) -> int:
    """Returns the bytes accessed by a step with every block counted.

    XLA counts the body of a loop once. A body of two blocks shows what one block adds.

    Args:
        exact: figures of the step with one block in the body of the loop.
        doubled: the same with two blocks.
    """
    return exact.bytes_accessed + (BLOCKS - 1) * (doubled.bytes_accessed - exact.bytes_accessed)


class _Program:
    """One train step with the shapes and shardings that it is compiled for."""

    def __init__(
        self, variant: str, placement: Placement, config: ScaleConfig, mesh: Mesh, unroll: int = 1
    ):
        workload = transformer(SIZES[placement.size], unroll=unroll)
        batch_size = workload.batch_size * placement.devices
        by_example = NamedSharding(mesh, PartitionSpec(_DATA))
        self._problem = make_problem(
            workload,
            batch_size,
            config.dtype,
            # Else XLA may gather activations instead of parameters, which is no FSDP.
            place=lambda x: jax.lax.with_sharding_constraint(x, by_example),
        )
        self._method = VARIANTS[variant].build(config.optimizer)
        params, opt_state = start_shapes(self._problem, self._method)
        shardings = jax.tree.map(
            lambda leaf: NamedSharding(mesh, _partition(leaf.shape, mesh, placement.layout)), params
        )
        replicated = NamedSharding(mesh, PartitionSpec())
        state_shardings = optax.tree.map_params(
            self._method.rule.transform,
            lambda _, sharding: sharding,
            opt_state,
            shardings,
            transform_non_params=lambda _: replicated,
        )
        self.params = jax.tree.map(_placed, params, shardings)
        self.opt_state = jax.tree.map(_placed, opt_state, state_shardings)
        self._batch = jax.tree.map(lambda leaf: _placed(leaf, by_example), self._problem.batch)

    def compile(self) -> tuple[Exact, bool]:
        """Returns the figures, and whether parameters, state and θ̂ keep their shardings."""
        step = make_step(self._problem, self._method)
        program = step.lower(self.params, self.opt_state, self._batch).compile(_QUICK_CODE)
        predict = jax.jit(self._method.rule.gradient_point)
        prediction = predict.lower(self.params, self.opt_state).compile(_QUICK_CODE)
        given = jax.tree.leaves((self.params, self.opt_state, self.params))
        returned = jax.tree.leaves((program.output_shardings[:2], prediction.output_shardings))
        kept = all(
            leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
            for leaf, sharding in zip(given, returned, strict=True)
        )
        return exact_figures(program), kept


def _placed(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding, weak_type=leaf.weak_type)


def _partition(shape: tuple[int, ...], mesh: Mesh, layout: str) -> PartitionSpec:
    """Splits the longest axes of a parameter over the axes of the mesh, one over each."""
    split: list[str | None] = [None] * len(shape)
    for mesh_axis in {"data": (), "fsdp": (_DATA,), "2d": (_DATA, _MODEL)}[layout]:
        divisible = [
            axis
            for axis, length in enumerate(shape)
            if split[axis] is None
            and length >= _SHORTEST_SPLIT
            and length % mesh.shape[mesh_axis] == 0
        ]
        if divisible:
            split[max(divisible, key=lambda axis: shape[axis])] = mesh_axis
    return PartitionSpec(*split)
