"""The compiled parts of a run in a loop: one step, the same for all seeds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.task import Batch, Examples, Task, Variables
from experiments.training.batches import measuring_batches
from experiments.training.result import RunSpec
from experiments.training.schedules import method_of
from experiments.training.step import Progress, beginning, make_step


class Program(NamedTuple):
    """A run's compiled parts.

    Attributes:
        start: ``seed -> Progress``.
        step: ``(progress, batch, seed) -> (progress, loss)``; takes the progress over. Of several
            seeds at once all of these have a leading axis ``[seeds]``.
        evaluated: ``progress -> Variables`` that are judged.
        temporary_bytes: what the step allocates beside its arguments and results, for each seed;
            None where the compiler does not say.
    """

    start: Any
    step: Any
    evaluated: Any
    temporary_bytes: int | None


def compile_program(
    task: Task, spec: RunSpec, steps: int, batch: Batch, at_once: int = 1
) -> Program:
    """Compiles what runs that differ in nothing but their seeds share.

    Args:
        task: the problem.
        spec: any of the runs.
        steps: number of steps of the whole run, for the schedule.
        batch: a training batch, for its shapes.
        at_once: number of seeds that one step is for.
    """
    method = method_of(
        task.protocol, spec.optimizer, spec.arm, spec.learning_rate, steps, spec.weight_decay
    )
    step_with = make_step(task, method)

    @jax.jit
    def start(seed: jax.Array) -> Progress:
        return beginning(method, task.init(_key(seed, 0)))

    def step(progress: Progress, batch: Batch, seed: jax.Array) -> Any:
        return step_with(progress, batch, _key(seed, progress.steps + 1))

    @jax.jit
    def evaluated(progress: Progress) -> Variables:
        return Variables(method.evaluated(progress.params, progress.opt_state), progress.state)

    arguments = (jax.eval_shape(start, jnp.uint32(0)), batch, jnp.uint32(0))
    if at_once > 1:
        step = jax.vmap(step)
        arguments = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((at_once, *leaf.shape), leaf.dtype), arguments
        )
    compiled = jax.jit(step, donate_argnums=0).lower(*arguments).compile()
    memory = getattr(compiled.memory_analysis(), "temp_size_in_bytes", None)
    return Program(start, compiled, evaluated, memory and memory // at_once)


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
