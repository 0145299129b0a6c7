"""Lays train steps out over devices: shapes with shardings, which is all that a compiler needs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.studies.bench.steps import Batch, Problem, start_shapes
from experiments.studies.bench.variants import Way

_DATA, _MODEL = "data", "model"

# Shorter axes are left whole: the blocks of a stack, for one.
_SHORTEST_SPLIT = 64


class Placed(NamedTuple):
    """What a step is given, as shapes with shardings.

    Attributes:
        params: parameters in their container.
        opt_state: the optimizer's state.
        batch: the batch.
    """

    params: Any
    opt_state: Any
    batch: Batch


def make_mesh(devices: Sequence[Any], layout: str) -> Mesh:
    """Arranges devices for a layout."""
    number = len(devices)
    shape = (number // 2, 2) if layout == "2d" and number > 1 else (number, 1)
    return Mesh(np.array(devices).reshape(shape), (_DATA, _MODEL))


def by_example(mesh: Mesh) -> NamedSharding:
    """Splits whatever has an example in each row."""
    return NamedSharding(mesh, PartitionSpec(_DATA))


def keep_by_example(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    """Returns what tells a model that activations are split by example.

    Else XLA may gather activations instead of parameters, which is no FSDP.
    """
    rows = by_example(mesh)
    return lambda activations: jax.lax.with_sharding_constraint(activations, rows)


def place(problem: Problem, way: Way, mesh: Mesh, layout: str) -> Placed:
    """Lays out what a step is given; whatever is like the parameters lies as they do."""
    params, opt_state = start_shapes(problem, way)
    shardings = jax.tree.map(
        lambda leaf: NamedSharding(mesh, _partition(leaf.shape, mesh, layout)), params
    )
    replicated = NamedSharding(mesh, PartitionSpec())
    state_shardings = optax.tree.map_params(
        way.method.transform,
        lambda _, sharding: sharding,
        opt_state,
        shardings,
        transform_non_params=lambda _: replicated,
    )
    return Placed(
        jax.tree.map(_placed, params, shardings),
        jax.tree.map(_placed, opt_state, state_shardings),
        jax.tree.map(lambda leaf: _placed(leaf, by_example(mesh)), problem.batch),
    )


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
