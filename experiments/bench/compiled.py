"""``bench --target``: train steps compiled for devices that are not there, and counted."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from experiments.bench.compiled_config import COMPILED, CompiledConfig, CompiledGroup
from experiments.bench.compiled_report import caveats, markdown_report, terminal_report
from experiments.bench.exact import Exact, exact_figures
from experiments.bench.placing import by_example, make_mesh, place
from experiments.bench.records import CompiledRecord
from experiments.bench.steps import make_problem, make_step, sizes_of
from experiments.bench.targets import TARGETS, Target
from experiments.bench.variants import PLAIN, VARIANTS
from experiments.bench.workloads import WORKLOADS
from experiments.runs import publish, run_all

_WEIGHTS = "float32"


def bench_compiled(config: CompiledConfig, folder: Path) -> bool:
    """Compiles every group for the target and writes the report.

    Args:
        config: what to compile; its names and numbers are valid.
        folder: where the results go; exists and holds no results.

    Returns:
        Whether everything finished; False after Ctrl-C, when the report covers what did.
    """
    target = TARGETS[config.target]
    devices = target.devices()
    records, meta = run_all(
        config.groups(),
        lambda group: count_group(group, config, target, devices),
        name=str,
        noun="comparisons",
        folder=folder,
        configuration=config,
    )
    publish(
        folder,
        markdown_report(records, config, meta),
        terminal_report(records, config) if records else None,
        caveats(meta),
    )
    return meta["status"] == "complete"


def count_group(
    group: CompiledGroup, config: CompiledConfig, target: Target, devices: Sequence[Any]
) -> list[CompiledRecord]:
    """Compiles all variants of a group; returns one record for each."""
    mesh = make_mesh(devices[: group.devices], group.layout)
    shape = COMPILED[group.model]
    batch_size = shape.batch_size * group.devices
    settings = dict(shape.settings)
    if shape.places_activations:
        rows = by_example(mesh)
        # Else XLA may gather activations instead of parameters, which is no FSDP.
        settings["place"] = lambda x: jax.lax.with_sharding_constraint(x, rows)
    problem = make_problem(
        WORKLOADS[group.model], batch_size, _WEIGHTS, compute=group.compute, **settings
    )
    names = config.variants_for(group.optimizer)
    methods = {name: VARIANTS[name].build(group.optimizer) for name in names}
    placed = {name: place(problem, method, mesh, group.layout) for name, method in methods.items()}

    def compiled(name: str) -> Exact:
        step = make_step(problem, methods[name])
        return exact_figures(target.compile(step, *placed[name], quickly=shape.is_large))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # a compiler uses one core, mostly
        figures = dict(zip(methods, pool.map(compiled, methods), strict=True))
    sizes = sizes_of(group.optimizer, placed[PLAIN].params, placed[PLAIN].opt_state)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(placed[PLAIN].params))
    return [
        CompiledRecord(
            model=group.model,
            optimizer=group.optimizer,
            compute=group.compute,
            mesh=group.mesh,
            batch_size=batch_size,
            variant=name,
            parameters=parameters,
            params_bytes=sizes.params,
            exact=exact,
        )
        for name, exact in figures.items()
    ]
