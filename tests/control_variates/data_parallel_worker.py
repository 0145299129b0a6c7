"""What ``test_data_parallel.py`` measures, on four devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sharding_worker import collectives

from xgrad_optax.control_variates import (
    HeadedLoss,
    HeadedParams,
    low_precision,
    neural_tangent_kernel,
    predicted_value_and_grad,
)

P = PartitionSpec
WIDTH, CLASSES, ROWS = 8, 4, 32
PREDICTORS = {"kernel": neural_tangent_kernel(16, 6), "low_precision": low_precision()}

# How the trunk lies on the devices.
LAYOUTS = {
    "replicated": {"w": P(), "b": P()},
    "fully_sharded": {"w": P("data", None), "b": P("data")},
}


def features(trunk, x):
    return jnp.tanh(jnp.tanh(x @ trunk["w"] + trunk["b"][None]) @ trunk["w"])


LOSS = HeadedLoss(features, optax.softmax_cross_entropy_with_integer_labels)


def make_params():
    rng = np.random.default_rng(0)
    trunk = {"w": rng.normal(size=(WIDTH, WIDTH)) / 3, "b": rng.normal(size=WIDTH)}
    head = {"kernel": rng.normal(size=(WIDTH, CLASSES)), "bias": rng.normal(size=CLASSES)}
    return jax.tree.map(np.float32, HeadedParams(trunk, head))


def make_batch(count, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, WIDTH))
    return x.astype(np.float32), np.argmax(x[:, :CLASSES], axis=1).astype(np.int32)


def make_mesh():
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def place(tree, mesh, spec):
    return jax.device_put(tree, NamedSharding(mesh, spec))


def place_params(mesh, layout):
    params = make_params()
    trunk = {name: place(v, mesh, LAYOUTS[layout][name]) for name, v in params.trunk.items()}
    return HeadedParams(trunk, place(params.head, mesh, P()))


def plain(params, batch):
    return jax.value_and_grad(lambda p: LOSS.losses(p, batch).mean())(params)


def data_parallel_step(predictor, importance, coefficient="leaf"):
    """A step on one device and on all; collectives of the plain step and of this one."""
    gradient = predicted_value_and_grad(
        LOSS, PREDICTORS[predictor], importance=importance, coefficient=coefficient
    )
    params, batch = make_params(), make_batch(ROWS)
    state = gradient.init(params, jax.random.key(0))
    state = jax.jit(gradient.fit)(params, state, make_batch(48, seed=1))
    single = jax.jit(gradient)(params, state, batch)
    mesh = make_mesh()
    params, state = (place(tree, mesh, P()) for tree in (params, state))
    batch = place(batch, mesh, P("data"))
    programs = [
        jax.jit(plain).lower(params, batch).compile(),
        jax.jit(gradient).lower(params, state, batch).compile(),
    ]
    results = (single, programs[1](params, state, batch))
    # Keys cannot be sent to another process as they are.
    ((loss, _), grads), ((parallel_loss, _), parallel_grads) = results
    values = [jax.tree.map(np.asarray, x) for x in ((loss, grads), (parallel_loss, parallel_grads))]
    return values, [collectives(program) for program in programs]


def gathered_batch():
    """Collectives of a step that shuffles the rows first: what the other test must not find."""
    mesh = make_mesh()
    params, batch = place(make_params(), mesh, P()), place(make_batch(ROWS), mesh, P("data"))

    def step(params, key, batch):
        order = jax.random.permutation(key, ROWS)
        return plain(params, jax.tree.map(lambda x: x[order], batch))

    return collectives(jax.jit(step).lower(params, jax.random.key(0), batch).compile())


def basis_layout(layout):
    """The shapes on one device of trunk and basis: after init and after compiled fits."""
    mesh = make_mesh()
    params = place_params(mesh, layout)
    gradient = predicted_value_and_grad(LOSS, PREDICTORS["kernel"])
    states = [gradient.init(params, jax.random.key(0))]
    batch = place(make_batch(32, seed=1), mesh, P())
    fit = jax.jit(gradient.fit)
    for _ in range(2):
        states.append(fit(params, states[-1], batch))

    def shapes(tree):
        return {name: leaf.sharding.shard_shape(leaf.shape) for name, leaf in tree.items()}

    return shapes(params.trunk), [shapes(state.predictor.basis) for state in states]
