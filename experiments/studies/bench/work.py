"""Compiles and times the steps of one group side by side."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.progress import Progress
from experiments.studies.bench.ask import Config, Group, Record, Timed
from experiments.studies.bench.exact import exact_figures
from experiments.studies.bench.steps import (
    Batch,
    Problem,
    draw_batch,
    make_problem,
    make_step,
    sizes_of,
    start,
    start_shapes,
    tree_bytes,
)
from experiments.studies.bench.variants import PLAIN, VARIANTS, Way
from experiments.studies.bench.workloads import WORKLOADS

_WARM_UP_STEPS = 2  # the second one shows whether the first one's outputs compile anew
_FEWEST_ROUNDS = 10
_MOST_ROUNDS = 1000

_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


class Build(NamedTuple):
    """A step that was compiled several times.

    Attributes:
        step: the jitted function, of the last repetition.
        program: what it was compiled to.
        compilations: how often XLA ran for the last repetition.
        seconds: tracing, lowering and compiling, once per repetition.
    """

    step: Any
    program: Any
    compilations: int
    seconds: list[float]


def prepare(config: Config, progress: Progress) -> Callable[[Group], list[Record]]:
    """Returns what measures a group."""
    del progress  # a group takes seconds
    # A program read from a disk cache was not compiled, and compile times are measured here.
    jax.config.update("jax_enable_compilation_cache", False)
    return lambda group: measure(group, config)


def measure(group: Group, config: Config) -> list[Record]:
    """Compiles and times all variants of a group; returns one record for each."""
    names = config.variants_for(group.optimizer)
    ways = {name: VARIANTS[name].build(group.optimizer) for name in names}
    problem = make_problem(WORKLOADS[group.model], group.batch_size, config.dtype)
    chance = random.Random(config.seed)
    builds = _build(problem, ways, config.compilations, chance)
    params = jax.jit(problem.init)(jax.random.key(config.seed))
    batch = draw_batch(problem, config.seed)
    starts = {name: start(way, params) for name, way in ways.items()}
    sizes = sizes_of(group.optimizer, *starts[PLAIN])
    carried = {name: tree_bytes(trees) for name, trees in starts.items()}
    race = _Race(builds, starts, batch)
    step_seconds = race.run(config.seconds, chance)
    return [
        Record(
            model=group.model,
            optimizer=group.optimizer,
            batch_size=group.batch_size,
            variant=name,
            parameters=sizes.parameters,
            params_bytes=sizes.params,
            carried=carried[name],
            compilations=build.compilations + race.compilations[name],
            exact=exact_figures(build.program),
            floor=floor.of(sizes) if (floor := VARIANTS[name].floor) else None,
            timed=Timed(
                compile_seconds=build.seconds,
                step_seconds=step_seconds[name],
                loss_is_finite=race.loss_is_finite(name),
            ),
        )
        for name, build in builds.items()
    ]


def _build(
    problem: Problem, ways: Mapping[str, Way], repetitions: int, chance: random.Random
) -> dict[str, Build]:
    """Compiles every step from scratch, several times, in an order that chance decides."""
    shapes = {name: start_shapes(problem, way) for name, way in ways.items()}
    # Not counted: the first one also pays for imports and for what JAX traces once and for all.
    make_step(problem, ways[PLAIN]).lower(*shapes[PLAIN], problem.batch).compile()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    builds = {}
    for _ in range(repetitions):
        for name in chance.sample(list(ways), len(ways)):
            step = make_step(problem, ways[name])
            with _compilations() as compilations:
                begin = time.perf_counter()
                program = step.lower(*shapes[name], problem.batch).compile()
                seconds[name].append(_rounded(time.perf_counter() - begin))
            builds[name] = Build(step, program, len(compilations), seconds[name])
    return {name: builds[name] for name in ways}


@contextlib.contextmanager
def _compilations() -> Iterator[list[float]]:
    """Collects the seconds of every run of XLA's compiler in the block."""
    seconds: list[float] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        del kwargs
        if event == _COMPILE_EVENT:
            seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


class _Race:
    """Steps that take turns."""

    def __init__(self, builds: Mapping[str, Build], starts: Mapping[str, Any], batch: Batch):
        self._steps = {name: build.step for name, build in builds.items()}
        self._batch = batch
        self._carried = dict(starts)
        self._losses: dict[str, Any] = {}
        self.compilations = {name: self._warm_up(name) for name in self._steps}

    def run(self, seconds: float, chance: random.Random) -> dict[str, list[float]]:
        """Runs rounds of one step each, in an order that chance decides, until time is up."""
        times: dict[str, list[float]] = {name: [] for name in self._steps}
        end = time.perf_counter() + seconds
        for finished in range(_MOST_ROUNDS):
            if finished >= _FEWEST_ROUNDS and time.perf_counter() > end:
                break
            for name in chance.sample(list(times), len(times)):
                times[name].append(_rounded(self._step(name)))
        return times

    def loss_is_finite(self, name: str) -> bool:
        """Whether the latest loss of a variant is a number."""
        return bool(np.isfinite(self._losses[name]))

    def _warm_up(self, name: str) -> int:
        with _compilations() as compilations:
            for _ in range(_WARM_UP_STEPS):
                self._step(name)
        return len(compilations)

    def _step(self, name: str) -> float:
        begin = time.perf_counter()
        result = self._steps[name](*self._carried[name], self._batch)
        params, opt_state, loss = jax.block_until_ready(result)
        seconds = time.perf_counter() - begin
        self._carried[name], self._losses[name] = (params, opt_state), loss
        return seconds


def _rounded(seconds: float) -> float:
    return round(seconds, 7)
