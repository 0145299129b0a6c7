"""Flax Linen: lets ``flax.serialization`` write and read train states that hold a prediction.

Import it once, before ``flax.serialization.to_bytes`` or ``flax.training.checkpoints`` meets such a
state. (Orbax needs nothing.) Only arrays are written; rules and static hyperparameters come from
the state that is restored into, as the tree structure always does.
"""

import jax
from flax import serialization

from xgrad_optax import predictors
from xgrad_optax._state import Horizon, Hyperparameters


def register_serialization(node_type: type) -> None:
    """Teaches ``flax.serialization`` one pytree type, such as a predictor of your own.

    Args:
      node_type: a type registered with ``jax.tree_util``.

    Raises:
      ValueError: ``flax.serialization`` knows the type already.

    Examples:
      >>> import flax.serialization, jax.numpy as jnp, xgrad_optax, xgrad_optax.linen
      >>> tx = xgrad_optax.adam(1e-3).tx
      >>> state = tx.init({"w": jnp.zeros(2)})
      >>> written = flax.serialization.to_bytes(state)
      >>> restored = flax.serialization.from_bytes(tx.init({"w": jnp.ones(2)}), written)
      >>> restored.predictor == state.predictor
      True
    """
    serialization.register_serialization_state(
        node_type,
        lambda node: {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(node))},
        lambda node, leaves: jax.tree.unflatten(
            jax.tree.structure(node), [leaves[str(i)] for i in range(len(leaves))]
        ),
    )


for _node_type in (
    Hyperparameters,
    Horizon,
    predictors.Coverage,
    predictors.LastUpdate,
    predictors.ZeroGradient,
    predictors.FromMoments,
):
    register_serialization(_node_type)
