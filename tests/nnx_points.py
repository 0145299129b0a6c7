"""An NNX model of two weights, one step from its start, and both of its points in either form."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import xgrad_optax
from xgrad_optax import in_place, with_weight_prediction, xgrad
from xgrad_optax.nnx import base_weights, predicted_weights

S, RATE = 2, 0.1
START, GRADIENT = np.array([1.0, 2.0], np.float32), np.array([1.0, -1.0], np.float32)
# One step of gradient descent along GRADIENT.
BASE = START - RATE * GRADIENT
PREDICTED = BASE - S * RATE * GRADIENT
FORMS = {
    "explicit": lambda s=S: with_weight_prediction(optax.sgd(RATE), s).tx,
    "drop-in": lambda s=S: xgrad(optax.sgd(RATE), s),
    "in-place": lambda s=S: in_place(xgrad_optax.sgdm(RATE, s=s, momentum=0.0)),
}
HELD = {"explicit": BASE, "drop-in": PREDICTED, "in-place": PREDICTED}
POINTS = {predicted_weights: PREDICTED, base_weights: BASE}
EACH_FORM = pytest.mark.parametrize("form", FORMS)
EACH_CONTEXT = pytest.mark.parametrize("context", POINTS)
# The contexts that have something to exchange.
EXCHANGES = [
    ("explicit", predicted_weights),
    ("drop-in", base_weights),
    ("in-place", base_weights),
]
EACH_EXCHANGE = pytest.mark.parametrize(("form", "context"), EXCHANGES)


class Model(nnx.Module):
    def __init__(self, start=START):
        self.w = nnx.Param(jnp.asarray(start))
        self.calls = nnx.BatchStat(jnp.zeros(()))

    def __call__(self):
        self.calls[...] += 1
        return jnp.sum(self.w[...] ** 2) / 2  # its gradient tells where it was taken


def loss(model):
    return model()


def gradient(name="w", kind=nnx.Param):
    return nnx.State({name: kind(jnp.asarray(GRADIENT))})


def trained(tx, model=None):
    model = model or Model()
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    optimizer.update(model, gradient())
    return model, optimizer


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
