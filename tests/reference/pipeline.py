"""An asynchronous pipeline as it is defined: queues of versions, messages by name, no rings."""

import functools
from typing import NamedTuple

import jax
import optax

from experiments.training.pipeline import CURRENT, ESTIMATED, PREDICTED, STASH, point


class Update(NamedTuple):
    """One update of one stage.

    Attributes:
        tick: when.
        micro_batch: whose gradient.
        version: how many updates the weights of that micro-batch's forward pass had seen.
        params: the weights after it.
    """

    tick: int
    micro_batch: int
    version: int
    params: object


class Worker:
    """One stage with its weights, and by micro-batch all that it has seen."""

    def __init__(self, params, optimizer):
        self.params, self.optimizer = params, optimizer
        self.opt_state = optimizer.init(params)
        self.update = jax.jit(optimizer.update)
        self.updates = []
        self.inputs, self.weights, self.versions = {}, {}, {}

    def predicted(self):
        return point(self.optimizer, self.params, self.opt_state)


def simulate(cut, optimizers, backward, batches, params, ticks):
    """Every update of every stage, and the losses of the forward passes by micro-batch."""
    stages = len(params)
    workers = [Worker(*each) for each in zip(params, optimizers, strict=True)]
    outputs, cotangents, losses = {}, {}, {}
    passes = [_passes(cut, i == 0, i == stages - 1) for i in range(stages)]
    for tick in range(ticks):
        for i, worker in enumerate(workers):
            predicted = worker.predicted()
            m = tick - i
            if m >= 0:
                x = outputs.get((i - 1, m))
                worker.inputs[m], worker.weights[m] = x, predicted
                worker.versions[m] = len(worker.updates)
                outputs[i, m] = passes[i].forward(predicted, x, batches[m])
                if i == stages - 1:
                    losses[m] = outputs[i, m]
            m = tick - 2 * (stages - 1) + i
            if m < 0:
                continue
            used = {STASH: worker.weights[m], PREDICTED: predicted, CURRENT: worker.params}
            if backward == ESTIMATED:
                used[ESTIMATED] = worker.optimizer.past_params(worker.params, worker.opt_state)
            grads, cotangents[i, m] = passes[i].backward(
                used[backward], worker.inputs[m], batches[m], cotangents.get((i + 1, m))
            )
            updates, worker.opt_state = worker.update(grads, worker.opt_state, worker.params)
            worker.params = optax.apply_updates(worker.params, updates)
            worker.updates.append(Update(tick, m, worker.versions[m], worker.params))
    return [worker.updates for worker in workers], losses


class _Passes(NamedTuple):
    forward: object
    backward: object


@functools.cache
def _passes(cut, is_first, is_last):
    """The forward and the backward pass of a stage, each compiled once."""

    def function(weights, x, batch):
        x = cut.enter(weights, batch) if is_first else x
        output = cut.block(weights, x)
        return cut.loss(weights, output, batch) if is_last else output

    def backward(weights, x, batch, cotangent):
        value, pullback = jax.vjp(lambda w, x: function(w, x, batch), weights, x)
        return pullback(jax.numpy.ones_like(value) if is_last else cotangent)

    return _Passes(jax.jit(function), jax.jit(backward))
