"""One run from its start, or from its newest checkpoint, to its result."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.arms import SAM, SAM_EQUAL
from experiments.folder import number
from experiments.provenance import describe_environment
from experiments.task import Data, Examples, Task, check_parameters
from experiments.training.batches import steps_per_epoch, take, training_batches
from experiments.training.checkpoints import Checkpoints, Snapshot
from experiments.training.program import Program, compile_program, measure
from experiments.training.result import DIVERGED, FINISHED, Point, Result, RunSpec
from experiments.training.step import Progress
from experiments.training.stopping import stoppable

_DIGITS = 7  # of a float32

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
    """

    def __init__(self, task: Task, data: Data) -> None:
        check_parameters(task)
        self.task = task
        self.data = data
        self.measure = jax.jit(task.measure)
        # What was compiled last: older programs are not asked for again, but would hold memory.
        self._compiled: tuple[tuple[RunSpec, int], Program] | None = None
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
        run = _Run(self, spec, program)
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
        """Trains runs that differ in nothing but their seeds, one step of all at a time.

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
            runs = [_Run(self, spec, program) for spec in specs]
            _advance_together(runs, program)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return [self.run(spec) for spec in specs]
        seconds = (time.monotonic() - began) / len(specs)
        return [
            self._result(run, compile_seconds / len(specs), seconds, len(specs)) for run in runs
        ]

    def _result(
        self, run: "_Run", compile_seconds: float, wall_seconds: float, at_once: int = 1
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
            temporary_bytes=run.program.temporary_bytes,
            error=None,
            environment=self._environment(),
            at_once=at_once,
        )

    def epochs(self, spec: RunSpec) -> int:
        """Returns the number of passes: SAM at equal gradients has half of them."""
        epochs = spec.epochs or self.task.protocol.epochs
        return max(1, epochs // 2) if spec.arm == SAM_EQUAL else epochs

    def _program(self, spec: RunSpec, at_once: int = 1) -> tuple[Program, float]:
        """Returns the compiled parts and the seconds that took, 0 for known ones."""
        shared = (dataclasses.replace(spec, seed=0), at_once)
        if self._compiled and self._compiled[0] == shared:
            return self._compiled[1], 0.0
        began = time.monotonic()
        size = self.task.protocol.batch_size
        steps = self.epochs(spec) * steps_per_epoch(self.data, size)
        batch = take(self.data.train, np.arange(size))
        program = compile_program(self.task, spec, steps, batch, at_once)
        self._compiled = (shared, program)
        return program, time.monotonic() - began


class _Run:
    """A run under way: what it has come to, and how it goes on."""

    def __init__(self, trainer: Trainer, spec: RunSpec, program: Program) -> None:
        self.spec, self.program = spec, program
        self._trainer = trainer
        self._seed = jnp.uint32(spec.seed)
        size = trainer.task.protocol.batch_size
        epochs = trainer.epochs(spec)
        self.epoch_steps = steps_per_epoch(trainer.data, size)
        self.steps = epochs * self.epoch_steps
        self._batches = training_batches(trainer.data, size, spec.seed, epochs)
        self.progress: Progress = program.start(self._seed)
        self.points: list[Point] = []
        self.steps_done = 0
        self._losses: list[Any] = []  # of this epoch
        self._seconds = 0.0
        self._epoch_began = time.monotonic()
        self.diverged = False

    @property
    def over(self) -> bool:
        """Whether there is nothing more to do."""
        return self.diverged or self.steps_done == self.steps

    def advance(self) -> Point | None:
        """Does one step, and measures after an epoch's last."""
        self.progress, loss = self.program.step(self.progress, self.next_batch(), self._seed)
        self._losses.append(loss)
        self.steps_done += 1
        if self.steps_done % self.epoch_steps:
            return None
        losses = [float(loss) for loss in self._losses]  # waits for the steps
        point = self.end_epoch(losses, time.monotonic() - self._epoch_began)
        self._losses = []
        self._epoch_began = time.monotonic()
        return point

    def next_batch(self) -> Examples:
        """Returns what the next step learns from."""
        return next(self._batches)

    def end_epoch(self, losses: Sequence[float], seconds: float) -> Point:
        """Measures; ``losses`` are those of the epoch's steps, which took ``seconds``."""
        train_loss = float(np.mean(losses))
        self._seconds += seconds
        variables = self.program.evaluated(self.progress)
        validation, test = (self._measures(variables, part) for part in ("validation", "test"))
        point = Point(
            epoch=self.steps_done // self.epoch_steps,
            step=self.steps_done,
            seconds=round(self._seconds, 3),
            train_loss=number(train_loss, _DIGITS),
            validation=validation,
            test=test,
        )
        self.points.append(point)
        self.diverged = not math.isfinite(train_loss) or None in validation.values()
        return point

    def _measures(self, variables: Any, part: str) -> Mapping[str, float | None]:
        examples = getattr(self._trainer.data, part)
        measures = measure(self._trainer.task, self._trainer.measure, variables, examples)
        return {name: number(value, _DIGITS) for name, value in measures.items()}

    def snapshot(self) -> Snapshot:
        """Returns all that the rest of the run depends on."""
        losses = [float(loss) for loss in self._losses]
        self._seconds += time.monotonic() - self._epoch_began
        self._epoch_began = time.monotonic()
        return Snapshot(
            self.progress,
            {
                "batches": self._batches.get_state(),
                "losses": losses,
                "seconds": self._seconds,
                "points": [dataclasses.asdict(point) for point in self.points],
            },
        )

    def go_on_from(self, snapshot: Snapshot) -> None:
        """Continues where another process stopped."""
        self.progress = jax.tree.map(jnp.asarray, snapshot.progress)
        self.steps_done = int(self.progress.steps)
        self._batches.set_state(snapshot.notes["batches"])
        self._losses = list(snapshot.notes["losses"])
        self._seconds = snapshot.notes["seconds"]
        self.points = [Point(**point) for point in snapshot.notes["points"]]
        self._epoch_began = time.monotonic()


def _advance_together(runs: Sequence[_Run], program: Program) -> None:
    """Takes all runs to their ends; one that diverged is no longer measured.

    Args:
        runs: of one length.
        program: compiled for as many.
    """
    seeds = jnp.array([run.spec.seed for run in runs], jnp.uint32)
    progress: Progress = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *[run.progress for run in runs]
    )
    while any(not run.over for run in runs):
        began, losses = time.monotonic(), []
        for _ in range(runs[0].epoch_steps):
            batch = jax.tree.map(lambda *rows: np.stack(rows), *[run.next_batch() for run in runs])
            progress, loss = program.step(progress, batch, seeds)
            losses.append(loss)
        of_all = np.array(losses)  # waits for the steps
        share = (time.monotonic() - began) / len(runs)
        for place, run in enumerate(runs):
            if not run.over:
                run.progress = jax.tree.map(lambda leaf: leaf[place], progress)  # noqa: B023
                run.steps_done += run.epoch_steps
                run.end_epoch(of_all[:, place].tolist(), share)


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
