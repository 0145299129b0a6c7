"""The compiled parts of a run: one step and one measurement, the same for all rates and seeds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.evidence.loading import measuring_batches
from experiments.evidence.methods import make_method
from experiments.evidence.schedules import SCHEDULES
from experiments.evidence.spec import RunSpec
from experiments.evidence.task import Batch, Examples, Task, Variables


class Progress(NamedTuple):
    """All that a step hands to the next.

    Attributes:
        params: the parameters.
        opt_state: the optimizer's state.
        state: the model's state.
        step: number of steps done, int32.
    """

    params: Any
    opt_state: Any
    state: Any
    step: Any


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
    protocol = task.protocol
    method = make_method(
        spec.optimizer,
        spec.arm,
        spec.learning_rate,
        SCHEDULES[protocol.schedule](steps),
        weight_decay=protocol.weight_decay if spec.weight_decay is None else spec.weight_decay,
        clip_norm=protocol.clip_norm,
    )

    @jax.jit
    def start(seed: jax.Array) -> Progress:
        params, state = task.init(_key(seed, 0))
        return Progress(params, method.init(params), state, jnp.int32(0))

    def step(progress: Progress, batch: Batch, seed: jax.Array) -> Any:
        key = _key(seed, progress.step + 1)
        loss, params, opt_state, state = method.step(
            lambda params: task.gradient(params, progress.state, batch, key),
            progress.params,
            progress.opt_state,
        )
        if task.project:
            params = task.project(params)
        return Progress(params, opt_state, state, progress.step + 1), loss

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
