"""Flax Linen: a train state that knows both points, BatchNorm statistics, and serialization.

Import it once, before ``flax.serialization.to_bytes`` or ``flax.training.checkpoints`` meets a
train state that holds a prediction. (Orbax needs nothing.) Only arrays are written; rules and
static hyperparameters come from the state that is restored into, as the tree structure always does.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeVar

import jax

from xgrad_optax._batch_stats import averaged_batch_stats
from xgrad_optax._forms import WeightPrediction
from xgrad_optax._hyperparameters import Rule
from xgrad_optax._optional import without_flax
from xgrad_optax._points import base_point, predicted_point
from xgrad_optax._typing import OptState, Params, PyTree
from xgrad_optax.predictors._zero_gradient import Coverage

try:
    from flax import serialization
    from flax.linen.fp8_ops import OVERWRITE_WITH_GRADIENT
    from flax.training import train_state
except ModuleNotFoundError as _error:
    raise without_flax(__name__, _error) from None

Batch = TypeVar("Batch")


class XGradTrainState(train_state.TrainState):
    """Flax's ``TrainState`` with the two points of a prediction; ``apply_gradients`` is Flax's own.

    Serves both forms, so that a loop need not know which one it has: take gradients at
    ``predicted_params``, evaluate and export ``base_params``. Add fields, such as batch statistics,
    in a subclass, as with Flax's. In Flax's layout for fp8 training, ``{"params": ...,
    OVERWRITE_WITH_GRADIENT: ...}``, the optimizer trains the first entry: the points are its
    points, and the other entries are kept.

    Examples:
      >>> import jax, jax.numpy as jnp, xgrad_optax
      >>> state = XGradTrainState.create(
      ...     apply_fn=lambda params, inputs: inputs @ params["w"],
      ...     params={"w": jnp.zeros(2)},
      ...     tx=xgrad_optax.sgdm(0.1, s=1),
      ... )
      >>> @jax.jit
      ... def train_step(state, inputs, targets):
      ...     def loss_fn(params):
      ...         return jnp.mean((state.apply_fn(params, inputs) - targets) ** 2)
      ...     loss, grads = jax.value_and_grad(loss_fn)(state.predicted_params)  # was: .params
      ...     return state.apply_gradients(grads=grads), loss
      >>> for _ in range(100):
      ...     state, loss = train_step(state, jnp.eye(2), jnp.ones(2))
      >>> bool(jnp.allclose(state.base_params["w"], 1.0, atol=0.05))
      True
    """

    @classmethod
    def create(cls, *, apply_fn: Callable, params: Params, tx: Any, **kwargs: Any) -> Self:
        """As Flax's, but ``tx`` may also be a :class:`xgrad_optax.WeightPrediction`."""
        tx = tx.tx if isinstance(tx, WeightPrediction) else tx
        return super().create(apply_fn=apply_fn, params=params, tx=tx, **kwargs)

    @property
    def predicted_params(self) -> Params:
        """θ̂: take the loss and its gradient here."""
        return self._with_trained(predicted_point)

    @property
    def base_params(self) -> Params:
        """θ: evaluate, export and average these."""
        return self._with_trained(base_point)

    def _with_trained(self, point: Callable[[Params, OptState], Params]) -> Params:
        """The parameters with ``point`` in place of what ``apply_gradients`` gives to Optax."""
        params = self.params
        if isinstance(params, Mapping) and OVERWRITE_WITH_GRADIENT in params:
            trained = point(params["params"], self.opt_state)
            return type(params)({**params, "params": trained})
        return point(params, self.opt_state)


def recalibrate_batch_stats(
    forward: Callable[[PyTree, Batch], tuple[Any, PyTree]],
    variables: PyTree,
    batches: Iterable[Batch],
) -> PyTree:
    """Measures BatchNorm statistics anew, at the parameters in ``variables``.

    Running statistics belong to the parameters of the forward passes that they were collected in:
    with prediction to θ̂, and to those of many past steps. Before evaluating, exporting or
    averaging parameters they can be replaced by the plain average over some training batches.

    A statistic is a running mean if a forward pass writes m·old + (1-m)·found over it, 0 <= m < 1,
    whatever the layer calls m. Some ten passes on the first batch find that out; then each batch
    takes one. The averages are exact to float32 at any scale, or to the dtype in which the pass
    writes them: during the passes, statistics kept in low precision are float32. What is no running
    mean (counters, the ``u`` and ``sigma`` of ``linen.SpectralNorm``), and what no pass updates, is
    left alone.

    Args:
      forward: ``(variables, batch) -> (anything, updated collections)``, runs the model in training
        mode, as ``model.apply(variables, batch, train=True, mutable=["batch_stats"])`` does; wrap
        it in ``jax.jit``.
      variables: ``{"params": θ, "batch_stats": ...}``.
      batches: training batches of equal size, some dozens of them.

    Returns:
      The new ``batch_stats`` collection.

    Raises:
      ValueError: there are no batch statistics, none of them is a running mean that ``forward``
        updates, or there are no batches.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from flax import linen as nn
      >>> model = nn.BatchNorm(use_running_average=False)
      >>> batches = 2.0 + jax.random.normal(jax.random.key(0), (10, 100, 3))
      >>> variables = model.init(jax.random.key(1), batches[0])
      >>> forward = jax.jit(lambda v, batch: model.apply(v, batch, mutable=["batch_stats"]))
      >>> batch_stats = recalibrate_batch_stats(forward, variables, batches)
      >>> bool(jnp.allclose(batch_stats["mean"], batches.mean((0, 1)), rtol=1e-5))
      True
    """

    def update(stats: PyTree, batch: Batch, again: bool) -> PyTree:
        del again
        _, updated = forward({**variables, "batch_stats": stats}, batch)
        return updated["batch_stats"]

    return averaged_batch_stats(update, variables.get("batch_stats", {}), batches)


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
      >>> restored.rule == state.rule
      True
    """
    serialization.register_serialization_state(
        node_type,
        lambda node: {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(node))},
        lambda node, leaves: jax.tree.unflatten(
            jax.tree.structure(node), [leaves[str(i)] for i in range(len(leaves))]
        ),
    )


for _node_type in (Rule, Coverage):
    register_serialization(_node_type)
