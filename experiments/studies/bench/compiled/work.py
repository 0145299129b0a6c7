"""Compiles the steps of one group for a target, and counts."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from experiments.compilers.targets import TARGETS
from experiments.progress import Progress
from experiments.studies.bench.compiled.ask import COMPILED, Config, Group, Record
from experiments.studies.bench.exact import Exact, exact_figures
from experiments.studies.bench.placing import keep_by_example, make_mesh, place
from experiments.studies.bench.steps import make_problem, make_step, parameters_of, sizes_of
from experiments.studies.bench.variants import PLAIN, VARIANTS
from experiments.studies.bench.workloads import WORKLOADS

_WEIGHTS = "float32"


def prepare(config: Config, progress: Progress) -> Callable[[Group], list[Record]]:
    """Asks the compiler for the target's devices; returns what counts a group."""
    del progress  # a group takes seconds
    devices = TARGETS[config.target].devices()
    return lambda group: count_group(group, config, devices)


def count_group(group: Group, config: Config, devices: Sequence[Any]) -> list[Record]:
    """Compiles all variants of a group; returns one record for each."""
    target, shape = TARGETS[config.target], COMPILED[group.model]
    mesh = make_mesh(devices[: group.devices], group.layout)
    batch_size = shape.batch_size * group.devices
    settings = dict(shape.settings)
    if shape.places_activations:
        settings["place"] = keep_by_example(mesh)
    problem = make_problem(
        WORKLOADS[group.model], batch_size, _WEIGHTS, compute=group.compute, **settings
    )
    names = config.variants_for(group.optimizer)
    ways = {name: VARIANTS[name].build(group.optimizer) for name in names}
    placed = {name: place(problem, way, mesh, group.layout) for name, way in ways.items()}

    def compiled(name: str) -> Exact:
        step = make_step(problem, ways[name])
        return exact_figures(target.compile(step, *placed[name], quickly=shape.is_large))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a compiler uses one core, mostly
        figures = dict(zip(ways, pool.map(compiled, ways), strict=True))
    plain = placed[PLAIN]
    return [
        Record(
            model=group.model,
            optimizer=group.optimizer,
            compute=group.compute,
            mesh=group.mesh,
            batch_size=batch_size,
            variant=name,
            parameters=parameters_of(plain.params),
            params_bytes=sizes_of(group.optimizer, plain.params, plain.opt_state).params,
            exact=exact,
        )
        for name, exact in figures.items()
    ]
