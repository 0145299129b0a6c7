"""Late gradients on one device: many runs that differ in numbers are one compiled program."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from experiments.errors import UsageError
from experiments.studies.delay.arms import IN_FLIGHT, WORKERS, Setting
from experiments.studies.delay.ask import Config
from experiments.studies.delay.methods import method_of
from experiments.task import Examples, Task, Variables
from experiments.training.batches import (
    on_device,
    stacked_batches,
    steps_per_epoch,
    take,
)
from experiments.training.scan import Draws, Measures, draw, measure
from experiments.training.step import Progress, beginning, make_step
from xgrad_optax import pending_specs

_AXIS = "workers"


class Measured(NamedTuple):
    """What was measured of some runs, each ``[runs]``.

    Attributes:
        train_loss: loss on training examples.
        validation_loss: loss on the validation set.
        validation_metric: the task's metric there.
    """

    train_loss: np.ndarray
    validation_loss: np.ndarray
    validation_metric: np.ndarray


class Run(NamedTuple):
    """One run of a program, but for what all of its runs have in common.

    Attributes:
        seed: one of the configuration's.
        learning_rate: the rate.
        setting: the numbers of an arm.
    """

    seed: int
    learning_rate: float
    setting: Setting


class Simulator:
    """Trains runs of a task with gradients that are late.

    At the same seed all runs start from the same parameters, and their k-th update is made of the
    same examples. A run with a delay of τ takes τ steps more, in which nothing is applied.
    """

    def __init__(self, config: Config, task: Task) -> None:
        """Loads the data and draws what is random."""
        self._config, self._task = config, task
        self._batch_size = config.batch_size or task.protocol.batch_size
        if IN_FLIGHT in config.arms and self._batch_size % WORKERS:
            raise UsageError(
                f"the arm in-flight splits a batch among {WORKERS} workers, and a batch of "
                f"{task.name} has {self._batch_size} examples; leave the arm out"
            )
        data = task.load(config.data_dir)
        self._seeds = (*config.tuning_seeds, *config.seeds)
        steps = config.updates + max(config.delays)
        epochs = -(-steps // steps_per_epoch(data, self._batch_size))
        self._draws = draw(task, data, self._seeds, epochs, self._batch_size)
        size = task.protocol.measure_batch_size
        measured = (
            take(data.train, np.arange(_number_measured(config, data.train))),
            data.validation,
        )
        self._parts, self._weights = zip(
            *(stacked_batches(part, size) for part in measured), strict=True
        )
        self._train = on_device(data).train

    @functools.cached_property
    def start(self) -> Mapping[int, tuple[float, float, float]]:
        """By seed, the fields of :class:`Measured` before the first update."""

        def measured(variables: Variables, parts: Any) -> Any:
            return jax.lax.map(lambda own: self._measures(own, parts), variables)

        found = jax.jit(measured)(self._draws.variables, self._parts)
        columns = self._measured(found)
        return dict(zip(self._seeds, zip(*columns, strict=True), strict=True))

    def train(self, optimizer: str, delay: int, runs: Sequence[Run]) -> Measured:
        """Trains runs that share a method.

        Args:
            optimizer: key into ``OPTIMIZERS``.
            delay: updates that gradients are late.
            runs: at least one.
        """
        (method,) = {run.setting.method for run in runs}
        program = self._program(optimizer, delay, method)
        width = self._config.at_once
        found = [
            program(self._train, self._parts, self._draws, *self._arguments(runs[at : at + width]))
            for at in range(0, len(runs), width)
        ]
        columns = zip(*map(self._measured, found), strict=True)
        return Measured(*(np.concatenate(column)[: len(runs)] for column in columns))

    def _arguments(self, runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
        """Places of seeds and the numbers; filled up, so that all calls have one shape."""
        filled = [*runs, *[runs[0]] * (self._config.at_once - len(runs))]
        places = [self._seeds.index(run.seed) for run in filled]
        numbers = [(run.learning_rate, *run.setting[1:]) for run in filled]
        return np.array(places), np.array(numbers, np.float32)

    @functools.cache  # noqa: B019 - lives as long as the command
    def _program(self, optimizer: str, delay: int, method: str) -> Any:
        def run(train: Examples, parts: Any, draws: Draws, place: Any, numbers: Any) -> Any:
            rate, *setting = numbers
            drawn = jax.tree.map(lambda leaf: leaf[place], draws)
            variables = self._trained(
                optimizer, delay, Setting(method, *setting), rate, train, drawn
            )
            return self._measures(variables, parts)

        return jax.jit(jax.vmap(run, in_axes=(None, None, None, 0, 0)))

    def _trained(
        self,
        optimizer: str,
        delay: int,
        setting: Setting,
        rate: Any,
        train: Examples,
        drawn: Draws,
    ) -> Variables:
        """The variables after the last update, within a program."""
        axis = _AXIS if setting.method == IN_FLIGHT else None
        method = method_of(
            self._task.protocol, optimizer, delay, setting, rate, self._config.updates, axis
        )
        progress = beginning(method, drawn.variables)
        step = make_step(self._task, method)
        if axis:
            step, progress = _by_workers(step, progress)

        def one_step(progress: Any, drawn: Any) -> tuple[Any, None]:
            indices, key = drawn
            batch = take(train, indices.reshape(WORKERS, -1) if axis else indices)
            return step(progress, batch, key)[0], None

        steps = self._config.updates + delay
        batches, keys = (
            leaf.reshape(-1, *leaf.shape[2:])[:steps] for leaf in (drawn.batches, drawn.step_keys)
        )
        progress, _ = jax.lax.scan(one_step, progress, (batches, keys))
        return Variables(progress.params, progress.state)

    def _measures(self, variables: Variables, parts: Any) -> tuple[Measures, Measures]:
        """Those of training and validation, within a program."""
        train, validation = (
            measure(self._task, variables, *part) for part in zip(parts, self._weights, strict=True)
        )
        return train, validation

    def _measured(self, found: tuple[Measures, Measures]) -> Measured:
        train, validation = (jax.tree.map(np.asarray, part) for part in found)
        runs = range(len(validation[self._task.loss]))
        derived = [
            self._task.derive({name: float(values[at]) for name, values in validation.items()})
            for at in runs
        ]
        metric = np.array([each[self._task.metric.name] for each in derived], np.float32)
        return Measured(train[self._task.loss], validation[self._task.loss], metric)


def _by_workers(step: Any, progress: Progress) -> tuple[Any, Progress]:
    """A step of all workers, who share everything but their gradients in flight."""
    specs = pending_specs(progress.opt_state, _AXIS)
    own = jax.tree.map(lambda spec: None if spec == PartitionSpec() else 0, specs)
    axes = Progress(None, own, None, None)
    opt_state = jax.tree.map(
        lambda leaf, spec: leaf if spec == PartitionSpec() else jnp.stack([leaf] * WORKERS),
        progress.opt_state,
        specs,
    )
    step = jax.vmap(step, in_axes=(axes, 0, None), out_axes=(axes, 0), axis_name=_AXIS)
    return step, progress._replace(opt_state=opt_state)


def _number_measured(config: Config, examples: Examples) -> int:
    return min(config.measured, len(jax.tree.leaves(examples)[0]))
