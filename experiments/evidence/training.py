"""One run from its start, or from its newest checkpoint, to its result."""

import contextlib
import dataclasses
import functools
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import take
from experiments.evidence import methods
from experiments.evidence.checkpoints import Checkpoints, Snapshot
from experiments.evidence.compiled import Program, Progress, compile_program, measure
from experiments.evidence.loading import steps_per_epoch, training_batches
from experiments.evidence.records import DIVERGED, FINISHED, Point, Result, finite
from experiments.evidence.spec import RunSpec
from experiments.evidence.task import Data, Task
from experiments.evidence.tasks import load_task
from experiments.provenance import describe_environment

Listener = Callable[[int, int, Point | None], None]
"""Told ``(steps done, steps in all, what was just measured)``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keeping:
    """Where and how often a run is saved.

    Attributes:
        folder: for checkpoints of this run alone; deleted once the run has its result.
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
        self.task = task
        self.data = data
        self.measure = jax.jit(task.measure)
        self._programs: dict[RunSpec, Program] = {}
        self._environment = functools.cache(describe_environment)

    def run(
        self, spec: RunSpec, keeping: Keeping | None = None, listener: Listener | None = None
    ) -> Result:
        """Trains one run.

        Args:
            spec: what to run; of this trainer's task.
            keeping: where checkpoints go, and where a cut-off run is looked for; None for neither.
            listener: told of each step, for progress bars and logs.

        Returns:
            The result; a run whose loss is not finite ends there and says so.
        """
        began = time.monotonic()
        program, compile_seconds = self._program(spec)
        run = _Run(self, spec, program)
        with contextlib.ExitStack() as stack:
            checkpoints = stack.enter_context(Checkpoints(keeping.folder)) if keeping else None
            if checkpoints and (snapshot := checkpoints.newest(run.progress)):
                run.go_on_from(snapshot)
            due = _due(keeping)
            while not run.over:
                point = run.advance()
                if listener:
                    listener(run.steps_done, run.steps, point)
                if checkpoints and not run.over and next(due):
                    checkpoints.save(run.snapshot())
        if keeping:
            shutil.rmtree(keeping.folder, ignore_errors=True)
        return Result(
            spec=spec,
            status=DIVERGED if run.diverged else FINISHED,
            metric=self.task.metric.name,
            higher_is_better=self.task.metric.higher_is_better,
            parameters=self.task.parameters,
            steps=run.steps,
            gradients_per_step=2 if spec.arm in (methods.SAM, methods.SAM_EQUAL) else 1,
            points=run.points,
            compile_seconds=round(compile_seconds, 3),
            wall_seconds=round(time.monotonic() - began, 3),
            temporary_bytes=program.temporary_bytes,
            error=None,
            environment=self._environment(),
        )

    def epochs(self, spec: RunSpec) -> int:
        """Returns the number of passes: SAM at equal gradients has half of them."""
        epochs = spec.epochs or self.task.protocol.epochs
        return max(1, epochs // 2) if spec.arm == methods.SAM_EQUAL else epochs

    def _program(self, spec: RunSpec) -> tuple[Program, float]:
        """Returns the compiled parts and the seconds that took, 0 for known ones."""
        shared = dataclasses.replace(spec, seed=0)
        if shared in self._programs:
            return self._programs[shared], 0.0
        size = self.task.protocol.batch_size
        steps = self.epochs(spec) * steps_per_epoch(self.data, size)
        began = time.monotonic()
        # Older programs are not asked for again, but hold memory.
        self._programs = {
            shared: compile_program(self.task, spec, steps, take(self.data.train, np.arange(size)))
        }
        return self._programs[shared], time.monotonic() - began


class _Run:
    """A run under way: what it has come to, and how it goes on."""

    def __init__(self, trainer: Trainer, spec: RunSpec, program: Program) -> None:
        self._trainer, self._program = trainer, program
        self._seed = jnp.uint32(spec.seed)
        size = trainer.task.protocol.batch_size
        epochs = trainer.epochs(spec)
        self._epoch_steps = steps_per_epoch(trainer.data, size)
        self.steps = epochs * self._epoch_steps
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
        batch = next(self._batches)
        self.progress, loss = self._program.step(self.progress, batch, self._seed)
        self._losses.append(loss)
        self.steps_done += 1
        return None if self.steps_done % self._epoch_steps else self._measure()

    def _measure(self) -> Point:
        train_loss = float(np.mean([float(loss) for loss in self._losses]))  # waits for the steps
        self._seconds += time.monotonic() - self._epoch_began
        variables = self._program.evaluated(self.progress)
        validation, test = (self._measures(variables, part) for part in ("validation", "test"))
        point = Point(
            epoch=self.steps_done // self._epoch_steps,
            step=self.steps_done,
            seconds=round(self._seconds, 3),
            train_loss=finite(train_loss),
            validation=validation,
            test=test,
        )
        self.points.append(point)
        self._losses = []
        self.diverged = not math.isfinite(train_loss) or None in validation.values()
        self._epoch_began = time.monotonic()
        return point

    def _measures(self, variables: Any, part: str) -> Mapping[str, float | None]:
        examples = getattr(self._trainer.data, part)
        measures = measure(self._trainer.task, self._trainer.measure, variables, examples)
        return {name: finite(value) for name, value in measures.items()}

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
        self.steps_done = int(self.progress.step)
        self._batches.set_state(snapshot.notes["batches"])
        self._losses = list(snapshot.notes["losses"])
        self._seconds = snapshot.notes["seconds"]
        self.points = [Point(**point) for point in snapshot.notes["points"]]
        self._epoch_began = time.monotonic()


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


def load_trainer(task: str, preset: str, data_dir: str | None) -> Trainer:
    """Returns a trainer with the task's data loaded."""
    found = load_task(task, preset)
    return Trainer(found, found.load(data_dir))
