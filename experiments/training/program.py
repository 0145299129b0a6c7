"""The compiled parts of a run in a loop: one step, the same for all seeds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.arms import Method
from experiments.task import Batch, Examples, Task, Variables
from experiments.training.batches import measuring_batches
from experiments.training.result import RunSpec
from experiments.training.schedules import method_of
from experiments.training.step import Progress, beginning, make_step


class Program(NamedTuple):
    """A run's compiled parts.

    Attributes:
        start: ``(seed, learning_rate) -> Progress``, of whose ``opt_state`` there are the leaves.
        step: ``(progress, batch, seed, learning_rate) -> (progress, loss)``; takes the progress
            over. Of several runs at once all of these have a leading axis ``[at_once]``.
        evaluated: ``(progress, learning_rate) -> Variables`` that are judged.
        step_bytes: what a step has in memory, for each run: its arguments, of which the results
            take the place, and what it allocates beside them; None where the compiler does not say.
        at_once: number of runs that one step is for.
    """

    start: Any
    step: Any
    evaluated: Any
    step_bytes: int | None
    at_once: int


def compile_program(
    task: Task, spec: RunSpec, steps: int, batch: Batch, at_once: int = 1
) -> Program:
    """Compiles what runs that differ in nothing but their seeds and learning rates share.

    Args:
        task: the problem.
        spec: any of the runs.
        steps: number of steps of the whole run, for the schedule.
        batch: a training batch, for its shapes.
        at_once: number of runs that one step is for.
    """

    def method(rate: jax.Array) -> Method:
        return method_of(task.protocol, spec.optimizer, spec.arm, rate, steps, spec.weight_decay)

    @jax.jit
    def start(seed: jax.Array, rate: jax.Array) -> Progress:
        return _closed(beginning(method(rate), task.init(_key(seed, 0))))

    def step(progress: Progress, batch: Batch, seed: jax.Array, rate: jax.Array) -> Any:
        own, key = method(rate), _key(seed, progress.steps + 1)
        progress, loss = make_step(task, own)(_opened(progress, own), batch, key)
        return _closed(progress), loss

    @jax.jit
    def evaluated(progress: Progress, rate: jax.Array) -> Variables:
        own = method(rate)
        params = own.evaluated(progress.params, _opened(progress, own).opt_state)
        return Variables(params, progress.state)

    seed, rate = jnp.uint32(0), jnp.float32(0)
    arguments = (jax.eval_shape(start, seed, rate), batch, seed, rate)
    if at_once > 1:
        step = jax.vmap(step)
        arguments = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((at_once, *leaf.shape), leaf.dtype), arguments
        )
    compiled = jax.jit(step, donate_argnums=0).lower(*arguments).compile()
    memory = _step_bytes(compiled)
    return Program(start, compiled, evaluated, memory and memory // at_once, at_once)


# A state may have its transform in its structure, and with it the rate, which means nothing outside
# of the program: what crosses its border are the arrays alone.


def _closed(progress: Progress) -> Progress:
    return progress._replace(opt_state=jax.tree.leaves(progress.opt_state))


def _opened(progress: Progress, method: Method) -> Progress:
    structure = jax.tree.structure(method.transform.init(progress.params))
    return progress._replace(opt_state=jax.tree.unflatten(structure, progress.opt_state))


def _step_bytes(compiled: Any) -> int | None:
    memory = compiled.memory_analysis()
    if memory is None:
        return None
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return memory.argument_size_in_bytes + results + memory.temp_size_in_bytes


def _key(seed: jax.Array, number: Any) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), number)


def measure(
    task: Task, sums_of: Any, variables: Variables, examples: Examples
) -> Mapping[str, float]:
    """Returns the task's measures on some examples; ``sums_of`` is its ``measure``, jitted."""
    totals: dict[str, float] = {}
    state = variables.state
    for batch in measuring_batches(
        examples, task.protocol.measure_batch_size or task.protocol.batch_size
    ):
        sums, state = sums_of(Variables(variables.params, state), batch)
        for name, value in sums.items():
            totals[name] = totals.get(name, 0.0) + float(value)
    weight = totals.pop("weight")
    measures = dict(task.derive({name: total / weight for name, total in totals.items()}))
    return measures | dict(task.score(variables, examples)) if task.score else measures
