"""A trunk of two tanh layers, a linear head, and data: small enough for thousands of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.reference import TanhTrunk
from xgrad_optax.control_variates import HeadedLoss, HeadedParams

INPUTS, WIDTH, FEATURES, CLASSES = 3, 4, 5, 3


def features(trunk, inputs):
    hidden = jnp.tanh(inputs @ trunk["W1"] + trunk["b1"][None])
    return jnp.tanh(hidden @ trunk["W2"] + trunk["b2"][None])


def headless_loss(params, batch):
    """The same loss as a plain function of all parameters."""
    inputs, labels = batch
    logits = features(params.trunk, inputs) @ params.head["kernel"] + params.head["bias"][None]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


LOSS = HeadedLoss(features, optax.softmax_cross_entropy_with_integer_labels)


def make_trunk(seed=0):
    """The network in NumPy."""
    rng = np.random.default_rng(seed)
    shapes = {
        "W1": (INPUTS, WIDTH),
        "b1": (WIDTH,),
        "W2": (WIDTH, FEATURES),
        "b2": (FEATURES,),
        "W": (FEATURES, CLASSES),
        "b": (CLASSES,),
    }
    return TanhTrunk(**{name: rng.normal(size=s) / np.sqrt(s[0]) for name, s in shapes.items()})


def make_params(dtype=jnp.float32, seed=0):
    """The network in JAX."""
    values = {name: jnp.asarray(v, dtype) for name, v in make_trunk(seed)._asdict().items()}
    head = {"kernel": values.pop("W"), "bias": values.pop("b")}
    return HeadedParams(values, head)


def make_data(count, seed=0, dtype=np.float32):
    """Inputs ``[count, 3]`` of very different sizes, and labels that depend on them."""
    rng = np.random.default_rng(1000 + seed)
    x = rng.normal(size=(count, INPUTS)) * rng.gamma(1.0, size=(count, 1))
    labels = np.argmax(x + 0.5 * rng.normal(size=x.shape), axis=1)
    return x.astype(dtype), labels.astype(np.int32)


def full_gradient(params, batch):
    """The plain gradient of the mean loss."""
    return jax.grad(lambda p: headless_loss(p, batch).mean())(params)
