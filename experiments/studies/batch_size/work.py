"""Chooses the rate of an arm at a batch size, then trains the reported seeds."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments.errors import UsageError
from experiments.folder import number
from experiments.progress import Progress
from experiments.studies.batch_size.ask import Config, Item, Record, score_of
from experiments.task import Data, Task, Variables
from experiments.tasks import load_task
from experiments.training.batches import (
    check_batch,
    on_device,
    stacked_batches,
    steps_per_epoch,
    take,
)
from experiments.training.scan import Draws, draw, measure
from experiments.training.schedules import method_of
from experiments.training.step import beginning, make_step
from experiments.tuning import REPORTED, around, tuned_and_reported

_DIGITS = 6


def prepare(config: Config, progress: Progress) -> Callable[[Item], list[Record]]:
    """Loads the data; returns what tunes and trains an arm at a batch size."""
    task = load_task(config.task)
    data = task.load(config.data_dir)
    if data.ordered:
        raise UsageError(
            f"--task {config.task}: it reads on in as many rows as its batches have, "
            f"{task.protocol.batch_size}, which cannot change; give another task"
        )
    if data.augment or task.score:
        raise UsageError(
            f"--task {config.task}: its examples are changed at random or its metric is computed "
            "apart, which only 'run' and 'sweep' do"
        )
    check_batch(data.train, max(config.batch_sizes))
    trainer = Trainer(config, task, data)
    return lambda item: Arm(config, item, trainer).records(progress)


class Trainer:
    """Trains; at the same seed and batch size all arms have the same weights and batches."""

    def __init__(self, config: Config, task: Task, data: Data) -> None:
        """Takes the data."""
        self.config, self.task, self._data = config, task, data
        self._seeds = (*config.tuning_seeds, *config.seeds)
        size = task.protocol.measure_batch_size
        stacked = [stacked_batches(part, size) for part in data[:3]]
        self._parts, self._weights = zip(*stacked, strict=True)
        self._train = on_device(data).train
        self._drawn: tuple[int, Draws] | None = None

    def steps(self, batch_size: int) -> int:
        """How many a run has."""
        return self.config.epochs * steps_per_epoch(self._data, batch_size)

    def program(self, item: Item) -> Callable[[int, float], tuple[Any, Any, Any]]:
        """Compiles an arm; returns the function from seed and rate to what is measured."""
        draws, steps = self._draws(item.batch_size), self.steps(item.batch_size)

        def run(train: Any, parts: Any, draws: Draws, place: Any, rate: Any) -> Any:
            drawn = jax.tree.map(lambda leaf: leaf[place], draws)
            method = method_of(self.task.protocol, self.config.optimizer, item.arm, rate, steps)
            step = make_step(self.task, method)

            def one_step(progress: Any, drawn: Any) -> tuple[Any, None]:
                indices, key = drawn
                return step(progress, take(train, indices), key)[0], None

            each = (drawn.batches.reshape(steps, -1), drawn.step_keys.reshape(steps))
            progress, _ = jax.lax.scan(one_step, beginning(method, drawn.variables), each)
            params = method.evaluated(progress.params, progress.opt_state)
            variables = Variables(params, progress.state)
            return tuple(
                measure(self.task, variables, *part)
                for part in zip(parts, self._weights, strict=True)
            )

        compiled = jax.jit(run)
        return lambda seed, rate: compiled(
            self._train, self._parts, draws, self._seeds.index(seed), np.float32(rate)
        )

    def _draws(self, batch_size: int) -> Draws:
        """Those of the last batch size are kept: its arms follow each other."""
        if self._drawn is None or self._drawn[0] != batch_size:
            config = self.config
            drawn = draw(self.task, self._data, self._seeds, config.epochs, batch_size)
            self._drawn = batch_size, drawn
        return self._drawn[1]


class Arm:
    """Tunes and trains one arm at one batch size."""

    def __init__(self, config: Config, item: Item, trainer: Trainer) -> None:
        """Takes what trains."""
        self._config, self._item, self._trainer = config, item, trainer
        self._run = trainer.program(item)

    def records(self, progress: Progress) -> list[Record]:
        """Returns a record of each rate that was tried, and that of the best."""
        grid = around(self._usual(), self._config.rates)
        return tuned_and_reported(
            self._trained, score_of, grid, self._config.most_rates, progress.within
        )

    def _usual(self) -> int:
        """Around which factor of 2 a grid begins: as the square root of the batch size."""
        times = self._item.batch_size / self._trainer.task.protocol.batch_size
        return round(math.log2(times) / 2)

    def _trained(self, rate: int, purpose: str) -> Record:
        config, task = self._config, self._trainer.task
        seeds = config.seeds if purpose == REPORTED else config.tuning_seeds
        learning_rate = task.protocol.learning_rates[config.optimizer] * 2.0**rate
        found = [jax.device_get(self._run(seed, learning_rate)) for seed in seeds]
        train, validation, test = (
            [task.derive({name: float(value) for name, value in means.items()}) for means in part]
            for part in zip(*found, strict=True)
        )

        def column(part: Sequence[Any], name: str) -> list[float | None]:
            return [number(means[name], _DIGITS) for means in part]

        return Record(
            batch_size=self._item.batch_size,
            arm=self._item.arm,
            purpose=purpose,
            learning_rate=learning_rate,
            steps=self._trainer.steps(self._item.batch_size),
            seeds=list(seeds),
            train_loss=column(train, task.loss),
            validation_loss=column(validation, task.loss),
            test_loss=column(test, task.loss),
            test_metric=column(test, task.metric.name),
        )
