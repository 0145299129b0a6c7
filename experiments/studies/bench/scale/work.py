"""The same exact figures for large models on many devices: compiled, never run.

Shapes stand for arrays, so nothing is allocated whatever the size; the transformer loops over its
blocks, so the program does not grow either. Work per device is the same at each number of devices.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from experiments.compilers.targets import TARGETS
from experiments.progress import Progress
from experiments.studies.bench.exact import Exact, exact_figures
from experiments.studies.bench.placing import keep_by_example, make_mesh, place
from experiments.studies.bench.scale.ask import SIZES, Config, Placement, Record
from experiments.studies.bench.steps import make_problem, make_step, parameters_of, sizes_of
from experiments.studies.bench.variants import PLAIN, VARIANTS
from experiments.studies.bench.workloads import BLOCKS, transformer

# Machine code that nobody runs need not be fast; what is counted is decided before it is made.
_QUICK_CODE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def prepare(config: Config, progress: Progress) -> Callable[[Placement], list[Record]]:
    """Finds the devices, or the compiler of the target; returns what counts on one mesh."""
    del progress  # a mesh takes seconds
    machine = _machine(config)
    return lambda placement: count_placement(placement, config, machine)


@dataclasses.dataclass(frozen=True)
class Machine:
    """What programs are compiled for.

    Attributes:
        devices: all of its devices.
        compile: ``(jitted function, *shapes) -> jax.stages.Compiled``.
        figures: reads off what was compiled.
        counts_loops: whether those count the body of a loop as often as it runs.
    """

    devices: Sequence[Any]
    compile: Callable[..., Any]
    figures: Callable[[Any], Exact]
    counts_loops: bool


def _machine(config: Config) -> Machine:
    if config.target is not None:
        target = TARGETS[config.target]
        return Machine(
            target.devices(),
            functools.partial(target.compile, quickly=True),
            _main_memory_figures,
            counts_loops=True,
        )
    # Only counts where JAX has not been used yet, as in a fresh process.
    jax.config.update("jax_num_cpu_devices", max(config.devices))
    # One kind of device for all meshes of a run, or they could not be compared.
    enough = len(jax.devices()) >= max(config.devices)
    devices = jax.devices() if enough else jax.devices("cpu")
    return Machine(devices, _compile_here, exact_figures, counts_loops=False)


def _compile_here(function: Any, *shapes: Any) -> Any:
    return function.lower(*shapes).compile(_QUICK_CODE)


def _main_memory_figures(compiled: Any) -> Exact:
    """Figures that mean the same on every target: XLA's cost model does not."""
    exact = exact_figures(compiled)
    assert exact.moved is not None  # it is counted here
    return dataclasses.replace(exact, bytes_accessed=exact.moved)


def count_placement(placement: Placement, config: Config, machine: Machine) -> list[Record]:
    """Compiles all variants of a transformer on one mesh; returns one record for each."""
    programs = {name: _Program(name, placement, config, machine) for name in config.variants}
    plain = programs[PLAIN].placed
    sizes = sizes_of(config.optimizer, plain.params, plain.opt_state)
    doubled = _Program(PLAIN, placement, config, machine, unroll=2)
    extra = [] if machine.counts_loops else [doubled]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # XLA compiles on one core
        results = list(pool.map(_Program.compile, [*programs.values(), *extra]))
    counted = dict(zip(programs, results, strict=False))  # the doubled one comes last
    step_bytes = _step_bytes(counted[PLAIN][0], *(exact for exact, _ in results[len(programs) :]))
    return [
        Record(
            size=placement.size,
            mesh=placement.mesh,
            devices=placement.devices,
            optimizer=config.optimizer,
            variant=name,
            parameters=parameters_of(plain.params),
            params_bytes=sizes.params,
            exact=exact,
            step_bytes=step_bytes,
            floor=floor.of(sizes) if (floor := VARIANTS[name].floor) else None,
            shardings_kept=shardings_kept,
        )
        for name, (exact, shardings_kept) in counted.items()
    ]


def _step_bytes(exact: Exact, doubled: Exact | None = None) -> int:
    """Returns the bytes accessed by a step with every block counted.

    XLA counts the body of a loop once. A body of two blocks shows what one block adds.

    Args:
        exact: figures of the step with one block in the body of the loop.
        doubled: the same with two blocks; None if all are counted as it is.
    """
    if doubled is None:
        return exact.bytes_accessed
    return exact.bytes_accessed + (BLOCKS - 1) * (doubled.bytes_accessed - exact.bytes_accessed)


class _Program:
    """One train step with the shapes and shardings that it is compiled for."""

    def __init__(
        self,
        variant: str,
        placement: Placement,
        config: Config,
        machine: Machine,
        unroll: int = 1,
    ):
        mesh = make_mesh(machine.devices[: placement.devices], placement.layout)
        workload = transformer(SIZES[placement.size], unroll=unroll)
        self._machine = machine
        self._problem = make_problem(
            workload,
            workload.batch_size * placement.devices,
            config.dtype,
            place=keep_by_example(mesh),
        )
        self._way = VARIANTS[variant].build(config.optimizer)
        self.placed = place(self._problem, self._way, mesh, placement.layout)

    def compile(self) -> tuple[Exact, bool]:
        """Returns the figures, and whether parameters, state and θ̂ keep their shardings."""
        params, opt_state, _ = self.placed
        program = self._machine.compile(make_step(self._problem, self._way), *self.placed)
        predict = jax.jit(self._way.method.point)
        prediction = self._machine.compile(predict, params, opt_state)
        given = jax.tree.leaves((params, opt_state, params))
        returned = jax.tree.leaves((program.output_shardings[:2], prediction.output_shardings))
        kept = all(
            leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
            for leaf, sharding in zip(given, returned, strict=True)
        )
        return self._machine.figures(program), kept
