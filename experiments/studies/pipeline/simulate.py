"""Pipelines on one device: runs that differ in numbers are one compiled program.

The stages run by the very program that runs one stage a device, ``training/pipeline.py``. GPipe's
step is the plain step on all its micro-batches, so that is what is run for it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.models.staged import Staged
from experiments.studies.pipeline.arms import GPIPE, Setting
from experiments.studies.pipeline.ask import Config
from experiments.studies.pipeline.counts import delay
from experiments.studies.pipeline.networks import NETWORKS
from experiments.studies.pipeline.optimizers import Build, Late, Numbers, optimizers_of
from experiments.task import Examples
from experiments.tasks import load_task
from experiments.training import pipeline
from experiments.training.batches import check_batch, epoch_batches, number_of_examples, take


class Run(NamedTuple):
    """One run of a program, but for what all of its runs have in common."""

    seed: int
    learning_rate: float
    setting: Setting


class Measured(NamedTuple):
    """What was measured of some runs, each ``[runs]`` but for the curve, ``[runs, points]``."""

    train_loss: np.ndarray
    validation_loss: np.ndarray
    accuracy: np.ndarray
    curve: np.ndarray


class Simulator:
    """Trains runs; at the same seed all of them have the same parameters and micro-batches."""

    def __init__(self, config: Config) -> None:
        """Loads the data and draws what is random."""
        self._config = config
        network = NETWORKS[config.network]
        self._network: Staged = network.staged.named()
        self._at_once = network.at_once
        data = load_task(network.task, "cpu").load(config.data_dir)
        check_batch(data.train, config.batch_size)
        self._train = jax.tree.map(jnp.asarray, data.train)
        self._parts = [_first(part, network.measured) for part in (data.train, data.validation)]
        self.seeds = (*config.tuning_seeds, *config.seeds)
        self._draws = jax.jit(jax.vmap(self._draw))(jnp.array(self.seeds, jnp.uint32))

    def _draw(self, seed: jax.Array) -> tuple[Any, jax.Array]:
        """Parameters, and the examples of as many micro-batches as there are ticks."""
        first, order = jax.random.split(jax.random.key(seed))
        size, examples = self._config.batch_size, number_of_examples(self._train)
        epochs = -(-self._config.ticks // (examples // size))
        batches = jax.vmap(lambda key: epoch_batches(key, examples, size))(
            jax.random.split(order, epochs)
        )
        return self._network.init(first, self._config.stages), batches.reshape(-1, size)[
            : self._config.ticks
        ]

    @functools.cached_property
    def start(self) -> dict[int, Measured]:
        """By seed, what is measured before the first tick; no curve."""
        found = jax.jit(jax.vmap(self._measures, in_axes=(0, None)))(self._draws[0], self._parts)
        losses, others, right = map(np.asarray, found)
        return {
            seed: Measured(losses[at], others[at], right[at], np.zeros(0))
            for at, seed in enumerate(self.seeds)
        }

    def points(self, setting: Setting) -> list[int]:
        """The ticks after which the training loss is measured."""
        steps = setting.steps(self._config.stages, self._config.ticks)
        each = setting.ticks_each(self._config.stages)
        return [(at + 1) * each for at in range(steps) if self._is_due(at, steps)]

    def _is_due(self, at: Any, steps: int) -> Any:
        every = max(1, steps // self._config.points)
        return ((at + 1) % every == 0) | (at + 1 == steps)

    def train(self, runs: Sequence[Run], *, watched: bool = True) -> Measured:
        """Trains runs whose settings differ in nothing but numbers.

        Args:
            runs: what is run.
            watched: whether the loss is measured on the way, which is a third of the work of a
                larger network; without, curves have no points.
        """
        (shared,) = {
            run.setting._replace(horizons=(), momentum=0.0, strength=0.0, adaptive=0.0)
            for run in runs
        }
        program = self._program(shared)
        parts = [runs[at : at + self._at_once] for at in range(0, len(runs), self._at_once)]
        found = [
            program(self._draws, self._train, self._parts, watched, *self._arguments(part))
            for part in parts
        ]
        columns = zip(*found, strict=True)
        losses, others, right, curves = (np.concatenate(column)[: len(runs)] for column in columns)
        steps = curves.shape[1]
        measured = [at for at in range(steps) if watched and self._is_due(at, steps)]
        return Measured(losses, others, right, curves[:, measured])

    def _arguments(self, runs: Sequence[Run]) -> tuple[Any, ...]:
        """Places of seeds, horizons and numbers; filled up, so that all calls have one shape."""
        filled = [*runs, *[runs[0]] * (self._at_once - len(runs))]
        places = np.array([self.seeds.index(run.seed) for run in filled])
        horizons = np.array([run.setting.horizons for run in filled], np.float32)
        each = [
            (run.learning_rate, run.setting.momentum, run.setting.strength, run.setting.adaptive)
            for run in filled
        ]
        return places, horizons, Numbers(*np.array(each, np.float32).T)

    @functools.cache  # noqa: B019 - lives as long as the command
    def _program(self, shared: Setting) -> Any:
        """Compiles what runs with the numbers of a setting as arguments."""
        begin = self._flushed if shared.method == GPIPE else self._asynchronous
        steps = shared.steps(self._config.stages, self._config.ticks)

        def run(
            draws: Any, train: Any, parts: Any, watched: Any, place: Any, s: Any, numbers: Numbers
        ) -> Any:
            params, order = jax.tree.map(lambda leaf: leaf[place], draws)
            build = optimizers_of(self._config.optimizer, shared, numbers)
            state, step = begin(shared, build, s, (train, order), params)

            def one(state: Any, at: jax.Array) -> tuple[Any, jax.Array]:
                state = step(state)
                return state, jax.lax.cond(
                    watched & self._is_due(at, steps),
                    lambda: self._network.whole(state.params, parts[0])[0],
                    lambda: jnp.full([], jnp.nan),
                )

            state, curve = jax.lax.scan(one, state, jnp.arange(steps))
            return *self._measures(state.params, parts), curve

        return jax.jit(jax.vmap(run, in_axes=(None, None, None, None, 0, 0, 0)))

    def _asynchronous(
        self, shared: Setting, build: Build, s: Any, data: Any, params: Any
    ) -> tuple[Any, Callable[[Any], Any]]:
        """All stages at the beginning, and a tick of them."""
        network, stages, updates = self._network, self._config.stages, self._config.ticks

        def optimizer(stage: jax.Array) -> Any:
            return build(s[stage], Late(delay(stages, stage), delay(stages, 0), updates))

        built = pipeline.Pipeline(
            pipeline.Cut(network.enter, network.block, network.loss),
            stages,
            optimizer,
            lambda data, number: take(data[0], data[1][number]),
            shared.backward,
        )
        begin, tick = (
            pipeline.on_one_device(built.stages, functools.partial(function, built))
            for function in (pipeline.begin, pipeline.tick)
        )
        return begin(data, params), lambda stages: tick(data, stages)[0]

    def _flushed(
        self, shared: Setting, build: Build, s: Any, data: Any, params: Any
    ) -> tuple[Any, Callable[[Any], Any]]:
        """The beginning of a plain loop, and its step."""
        optimizer, micro_batches = build(s[0], Late(0, 0, 0)), shared.micro_batches
        train, order = data

        def step(state: _Plain) -> _Plain:
            first = state.steps * micro_batches
            indices = jax.lax.dynamic_slice_in_dim(order, first, micro_batches)
            batch = take(train, indices.ravel())
            point = pipeline.point(optimizer, state.params, state.opt_state)
            grads = jax.grad(lambda params: self._network.whole(params, batch)[0])(point)
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            return _Plain(params, opt_state, state.steps + 1)

        return _Plain(params, optimizer.init(params), jnp.int32(0)), step

    def _measures(self, params: Any, parts: Sequence[Examples]) -> tuple[Any, Any, Any]:
        train, validation = parts
        return self._network.whole(params, train)[0], *self._network.whole(params, validation)


class _Plain(NamedTuple):
    params: Any
    opt_state: Any
    steps: jax.Array


def _first(examples: Examples, number: int | None) -> Examples:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[:number]), examples)
