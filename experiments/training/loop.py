"""One run from its start, or from its newest checkpoint, to its result."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.arms import SAM, SAM_EQUAL
from experiments.provenance import describe_environment
from experiments.task import Data, Task, check_parameters, fingerprint
from experiments.training.batches import steps_per_epoch, take
from experiments.training.checkpoints import Checkpoints
from experiments.training.program import Program, compile_program
from experiments.training.result import DIVERGED, FINISHED, Point, Result, RunSpec
from experiments.training.run import Problem, Run, advance_together
from experiments.training.stopping import stoppable

Listener = Callable[[int, int, Point | None], None]
"""Told ``(steps done, steps in all, what was just measured)``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keeping:
    """Where and how often a run is saved.

    Attributes:
        folder: for checkpoints of this run alone; whoever has kept the result can delete it.
        seconds: time between checkpoints.
        steps: steps between checkpoints, whatever the time; None to go by time.
    """

    folder: Path
    seconds: float = 60.0
    steps: int | None = None


class Trainer:
    """Trains runs of one task; data and compiled steps are kept from run to run.

    Attributes:
        task: the problem.
        data: its data.
        fingerprint: what tells them from other data.
    """

    def __init__(self, task: Task, data: Data) -> None:
        check_parameters(task)
        self.task = task
        self.data = data
        self.fingerprint = fingerprint(data)
        self._problem = Problem(task, data, jax.jit(task.measure))
        # What was compiled last: older programs are not asked for again, but would hold memory.
        self._compiled: tuple[RunSpec, Program] | None = None
        self._environment = functools.cache(describe_environment)

    def run(
        self, spec: RunSpec, keeping: Keeping | None = None, listener: Listener | None = None
    ) -> Result:
        """Trains one run; where checkpoints are kept, Ctrl-C saves one after the step under way.

        Args:
            spec: what to run; of this trainer's task.
            keeping: where checkpoints go, and where a cut-off run is looked for; None for neither.
            listener: told of each step, for progress bars and logs.

        Returns:
            The result; a run whose loss is not finite ends there and says so.

        Raises:
            KeyboardInterrupt: Ctrl-C came before the last step.
        """
        began = time.monotonic()
        program, compile_seconds = self._program(spec)
        run = self._begun(spec, program)
        with contextlib.ExitStack() as stack:
            checkpoints = stack.enter_context(Checkpoints(keeping.folder)) if keeping else None
            if checkpoints and (snapshot := checkpoints.newest(run.progress)):
                run.go_on_from(snapshot)
            due, stop_asked = _due(keeping), stack.enter_context(_stoppable(keeping))
            while not run.over:
                point = run.advance()
                if listener:
                    listener(run.steps_done, run.steps, point)
                stop = stop_asked()
                if checkpoints and not run.over and (next(due) or stop):
                    checkpoints.save(run.snapshot())
                if stop and not run.over:
                    raise KeyboardInterrupt
        return self._result(run, compile_seconds, time.monotonic() - began)

    def run_at_once(self, specs: Sequence[RunSpec]) -> list[Result]:
        """Trains runs that differ in nothing but seeds and rates, one step of all at a time.

        What one computes is what :meth:`run` does but for rounding; of the time that all take each
        is given its share. If there is no memory for all, they are trained one after the other.

        Args:
            specs: what to run; of this trainer's task.
        """
        if len(specs) == 1:
            return [self.run(specs[0])]
        began = time.monotonic()
        try:
            program, compile_seconds = self._program(specs[0], len(specs))
            runs = [self._begun(spec, program) for spec in specs]
            advance_together(runs, program)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return [self.run(spec) for spec in specs]
        seconds = (time.monotonic() - began) / len(specs)
        return [
            self._result(run, compile_seconds / len(specs), seconds, len(specs)) for run in runs
        ]

    def _result(
        self, run: Run, compile_seconds: float, wall_seconds: float, at_once: int = 1
    ) -> Result:
        spec = run.spec
        return Result(
            spec=spec,
            status=DIVERGED if run.diverged else FINISHED,
            metric=self.task.metric.name,
            higher_is_better=self.task.metric.higher_is_better,
            parameters=self.task.parameters,
            steps=run.steps,
            gradients_per_step=2 if spec.arm in (SAM, SAM_EQUAL) else 1,
            points=run.points,
            compile_seconds=round(compile_seconds, 3),
            wall_seconds=round(wall_seconds, 3),
            step_bytes=run.program.step_bytes,
            error=None,
            environment=self._environment(),
            data=self.fingerprint,
            at_once=at_once,
        )

    def _begun(self, spec: RunSpec, program: Program) -> Run:
        return Run(self._problem, spec, program, self.epochs(spec))

    def epochs(self, spec: RunSpec) -> int:
        """Returns the number of passes: SAM at equal gradients has half of them."""
        epochs = spec.epochs or self.task.protocol.epochs
        return max(1, epochs // 2) if spec.arm == SAM_EQUAL else epochs

    def _program(self, spec: RunSpec, at_once: int = 1) -> tuple[Program, float]:
        """Returns the compiled parts and the seconds that took, 0 for known ones.

        A step for more runs at once than are asked for serves too, but for one run alone: that is
        computed in one way, whatever was compiled before.
        """
        shared = dataclasses.replace(spec, seed=0, learning_rate=1.0)
        if self._compiled and self._compiled[0] == shared:
            known = self._compiled[1]
            if known.at_once == at_once or known.at_once > at_once > 1:
                return known, 0.0
        began = time.monotonic()
        size = self.task.protocol.batch_size
        steps = self.epochs(spec) * steps_per_epoch(self.data, size)
        batch = take(self.data.train, np.arange(size))
        program = compile_program(self.task, spec, steps, batch, at_once)
        self._compiled = shared, program
        return program, time.monotonic() - began


def _stoppable(keeping: Keeping | None) -> contextlib.AbstractContextManager[Callable[[], bool]]:
    """Lets Ctrl-C wait for the end of a step; without checkpoints it has nothing to wait for."""
    return stoppable() if keeping else contextlib.nullcontext(lambda: False)


def _due(keeping: Keeping | None) -> Iterator[bool]:
    """Yields after each step whether it is time for a checkpoint."""
    last, steps = time.monotonic(), 0
    while keeping:
        steps += 1
        if keeping.steps:
            yield steps % keeping.steps == 0
        elif time.monotonic() - last >= keeping.seconds:
            yield True
            last = time.monotonic()
        else:
            yield False
