"""A run under way, alone or beside others that differ in nothing but seed and rate."""

import dataclasses
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.folder import number
from experiments.task import Data, Examples, Task
from experiments.training.batches import steps_per_epoch, training_batches
from experiments.training.checkpoints import Snapshot
from experiments.training.program import Program, measure
from experiments.training.result import Point, RunSpec
from experiments.training.step import Progress

_DIGITS = 7  # of a float32


class Problem(NamedTuple):
    """What all runs of a task share.

    Attributes:
        task: what is trained.
        data: its data.
        measure: ``task.measure``, compiled.
    """

    task: Task
    data: Data
    measure: Any


class Run:
    """A run under way: what it has come to, and how it goes on."""

    def __init__(self, problem: Problem, spec: RunSpec, program: Program, epochs: int) -> None:
        self.spec, self.program = spec, program
        self._problem = problem
        self._seed, self._rate = jnp.uint32(spec.seed), jnp.float32(spec.learning_rate)
        size = problem.task.protocol.batch_size
        self.epoch_steps = steps_per_epoch(problem.data, size)
        self.steps = epochs * self.epoch_steps
        self._batches = training_batches(problem.data, size, spec.seed, epochs)
        self.progress: Progress = program.start(self._seed, self._rate)
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
        self.progress, loss = self.program.step(
            self.progress, self.next_batch(), self._seed, self._rate
        )
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
        variables = self.program.evaluated(self.progress, self._rate)
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
        task, data, compiled = self._problem
        measures = measure(task, compiled, variables, getattr(data, part))
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


def advance_together(runs: Sequence[Run], program: Program) -> None:
    """Takes all runs to their ends; one that diverged is no longer measured.

    Args:
        runs: of one length.
        program: compiled for as many or more; what is left over does what the last run does.
    """

    def filled(of_runs: Iterable[Any]) -> Sequence[Any]:
        listed = list(of_runs)
        return listed + listed[-1:] * (program.at_once - len(listed))

    seeds = jnp.array(filled(run.spec.seed for run in runs), jnp.uint32)
    rates = jnp.array(filled(run.spec.learning_rate for run in runs), jnp.float32)
    progress: Progress = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *filled(run.progress for run in runs)
    )
    while any(not run.over for run in runs):
        began, losses = time.monotonic(), []
        for _ in range(runs[0].epoch_steps):
            batches = filled(run.next_batch() for run in runs)
            batch = jax.tree.map(lambda *rows: np.stack(rows), *batches)
            progress, loss = program.step(progress, batch, seeds, rates)
            losses.append(loss)
        of_all = np.array(losses)  # waits for the steps
        share = (time.monotonic() - began) / len(runs)
        for place, run in enumerate(runs):
            if not run.over:
                run.progress = jax.tree.map(lambda leaf: leaf[place], progress)  # noqa: B023
                run.steps_done += run.epoch_steps
                run.end_epoch(of_all[:, place].tolist(), share)
