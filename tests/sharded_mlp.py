"""A small network on a mesh of devices, in the layouts that people train with.

Shared by the tests of sharding, of several processes and of restarts. Everything here runs in
processes that ``isolated.py`` starts, under ``jax.set_mesh``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, PartitionSpec

import xgrad_optax
from xgrad_optax import predictors

P = PartitionSpec
S = 2  # the horizon
BATCH = P("data", None)

# --------------------------------------------------------------------------------------------------
# Layouts
# --------------------------------------------------------------------------------------------------


class Layout(NamedTuple):
    """How the parameters lie on the mesh, and how the forward pass wants them."""

    axes: tuple[str, ...]
    stored: dict[str, PartitionSpec]
    used: dict[str, PartitionSpec]


REPLICATED = {"w1": P(), "b1": P(), "w2": P()}
LAYOUTS = {
    "data_parallel": Layout(("data",), stored=REPLICATED, used=REPLICATED),
    "fully_sharded": Layout(
        ("data",),
        stored={"w1": P("data", None), "b1": P("data"), "w2": P("data", None)},
        used=REPLICATED,
    ),
    "two_dimensional": Layout(
        ("data", "model"),
        stored={"w1": P("data", "model"), "b1": P("model"), "w2": P("model", "data")},
        used={"w1": P(None, "model"), "b1": P("model"), "w2": P("model", None)},
    ),
}
AXIS_TYPES = {"explicit_axes": AxisType.Explicit, "auto_axes": AxisType.Auto}


def make_mesh(layout: Layout, shape=None, axis_type=AxisType.Explicit):
    """All devices; if the layout has two axes, by default half of them along the first."""
    devices = jax.device_count()
    if shape is None:
        rows = devices if len(layout.axes) == 1 else max(devices // 2, 1)
        shape = (rows, devices // rows)[: len(layout.axes)]
    return jax.make_mesh(shape, layout.axes, axis_types=(axis_type,) * len(layout.axes))


def place(value, mesh, spec):
    """A global array from a value that every process has."""
    value = np.asarray(value)
    sharding = jax.sharding.NamedSharding(mesh, spec)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


# --------------------------------------------------------------------------------------------------
# The network
# --------------------------------------------------------------------------------------------------


def make_params(layout: Layout, mesh, dtype=np.float32):
    """The same values on every mesh."""
    rng = np.random.default_rng(0)
    values = {
        "w1": rng.normal(size=(8, 16)) / 3,
        "b1": rng.normal(size=16) / 3,
        "w2": rng.normal(size=(16, 8)) / 4,
    }
    return {name: place(v.astype(dtype), mesh, layout.stored[name]) for name, v in values.items()}


def make_batch(step: int, mesh):
    """The batch of one step, ``[16, 8]``."""
    values = np.random.default_rng(1000 + step).normal(size=(16, 8))
    return place(values.astype(np.float32), mesh, BATCH)


def loss(layout: Layout, params, batch):
    """How far the network is from reversing its inputs."""
    explicit = AxisType.Explicit in jax.sharding.get_abstract_mesh().axis_types
    move = jax.sharding.reshard if explicit else jax.lax.with_sharding_constraint
    used = {name: move(p, layout.used[name]) for name, p in params.items()}
    hidden = jnp.tanh(batch @ used["w1"] + used["b1"][None, :])
    outputs = jnp.matmul(hidden, used["w2"], out_sharding=BATCH if explicit else None)
    return jnp.mean((outputs - batch[:, ::-1]) ** 2)


# --------------------------------------------------------------------------------------------------
# The train step
# --------------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """How a train step uses a transform.

    Attributes:
      tx: the transform.
      point: ``(params, opt_state) ->`` where the gradient is taken.
      base: ``(params, opt_state) -> θ``.
    """

    tx: optax.GradientTransformationExtraArgs
    point: Callable[[Any, Any], Any]
    base: Callable[[Any, Any], Any]

    def step(self, layout: Layout):
        """The train step ``(params, opt_state, batch) -> (params, opt_state)``."""

        def step(params, opt_state, batch):
            point = self.point(params, opt_state)
            grads = jax.grad(loss, argnums=1)(layout, point, batch)
            updates, opt_state = self.tx.update(grads, opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        return step


def _as_held(params, opt_state):
    del opt_state
    return params


def plain(inner):
    return Form(optax.with_extra_args_support(inner), point=_as_held, base=_as_held)


def explicit(inner, predictor):
    lookahead_params, tx = xgrad_optax.with_weight_prediction(inner, S, predictor=predictor)
    return Form(tx, point=lookahead_params, base=_as_held)


def drop_in(inner, predictor, base_dtype=None):
    tx = xgrad_optax.xgrad(inner, S, predictor=predictor, base_dtype=base_dtype)
    return Form(tx, point=_as_held, base=xgrad_optax.base_params)


def in_place(inner, predictor):
    prediction = xgrad_optax.with_weight_prediction(inner, S, predictor=predictor)
    return Form(xgrad_optax.in_place(prediction), point=_as_held, base=xgrad_optax.base_params)


FORMS = {"explicit": explicit, "drop_in": drop_in}


class Optimizer(NamedTuple):
    """A plain optimizer and its closed form, if this library has one."""

    make: Callable[[], optax.GradientTransformation]
    closed_form: Callable[[], predictors.Predictor] | None = None

    def predictors(self):
        """A predictor of each kind, by name."""
        kinds = {
            "last_update": predictors.last_update(),
            "zero_gradient": predictors.zero_gradient(),
        }
        return kinds | ({"closed_form": self.closed_form()} if self.closed_form else {})

    def forms(self):
        """Each form with each kind of predictor that it takes, by name."""
        forms = {
            f"{form}-{kind}": make_form(self.make(), predictor)
            for form, make_form in FORMS.items()
            for kind, predictor in self.predictors().items()
        }
        if self.closed_form is not None:
            forms["in_place-closed_form"] = in_place(self.make(), self.closed_form())
        return forms


OPTIMIZERS = {
    "sgdm": Optimizer(lambda: optax.sgd(0.1, momentum=0.9), lambda: predictors.sgdm(0.1)),
    "adamw": Optimizer(lambda: optax.adamw(0.01), lambda: predictors.adam(0.01)),
    # Communicates itself: it needs the norm of each parameter and update.
    "lamb": Optimizer(lambda: optax.lamb(0.01)),
}

# A few that differ in form, predictor and what the state holds: ``(optimizer, form)``.
TYPICAL = (
    ("sgdm", "explicit-zero_gradient"),
    ("adamw", "explicit-last_update"),
    ("adamw", "explicit-closed_form"),
    ("adamw", "drop_in-last_update"),
    ("adamw", "in_place-closed_form"),
)
