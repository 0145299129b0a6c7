"""The two ways to say what is trained: a trunk with a linear head, or just a loss.

Both answer the same questions about some rows of a mini-batch: what does the forward pass know
(:class:`Rows`), and what is a weighted sum of their true gradients?
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from xgrad_optax._typing import Params, PyTree, Updates
from xgrad_optax.control_variates.selection import batch_size_of


class Rows(NamedTuple):
    """What the forward pass of b examples tells; ``None`` where the loss has no head.

    Attributes:
      losses: loss of each example, ``[b]``.
      features: a(x), output of the trunk, ``[b, d]``.
      residual: r = ∂loss/∂logits (softmax minus one-hot for cross entropy), ``[b, classes]``.
      output_gradient: δ = W r, what the backward pass of the trunk starts from, ``[b, d]``.
    """

    losses: jax.Array
    features: Any = None
    residual: Any = None
    output_gradient: Any = None


class HeadedParams(NamedTuple):
    """Parameters of a network that ends in a linear layer.

    Attributes:
      trunk: tree of the parameters below the head.
      head: ``{"kernel": [d, classes]}``, with ``"bias": [classes]`` or without: the parameters of
        a Flax ``Dense`` layer.
    """

    trunk: Params
    head: Mapping[str, jax.Array]


class ExampleLoss(Protocol):
    """A loss that is a mean over independent examples.

    Attributes:
      needs_rows: whether ``complete`` needs the forward pass of all rows.
    """

    needs_rows: ClassVar[bool]

    def losses(self, params: Params, batch: PyTree) -> jax.Array:
        """The loss of each example, ``[b]``."""
        ...

    def forward(self, params: Params, batch: PyTree) -> Rows:
        """The forward pass alone."""
        ...

    def weighted_gradient(
        self, params: Params, batch: PyTree, weights: jax.Array
    ) -> tuple[Rows, Updates]:
        """Σ_j w_j ∇loss_j over the predicted part of the parameters, and the forward pass."""
        ...

    def predicted_part(self, params: Params) -> Params:
        """The parameters whose gradients are predicted."""
        ...

    def complete(self, params: Params, rows: Rows | None, grads: Updates) -> Updates:
        """Adds the gradient of the other parameters, exact from the forward pass of all rows."""
        ...


@dataclasses.dataclass(frozen=True)
class HeadedLoss:
    """A trunk, a linear head and a loss of the logits; the gradient of the head is always exact.

    The parameters are :class:`HeadedParams`, a mini-batch is ``(inputs, targets)``. Examples must
    not depend on each other (no BatchNorm over the batch), and two evaluations of ``features`` must
    agree (no dropout that differs from call to call).

    Attributes:
      features: ``(trunk, inputs [b, ...]) -> a [b, d]``.
      loss: ``(logits [b, classes], targets [b, ...]) -> [b]``, such as
        ``optax.softmax_cross_entropy_with_integer_labels``.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> loss = HeadedLoss(
      ...     features=lambda trunk, inputs: jnp.tanh(inputs @ trunk),
      ...     loss=optax.softmax_cross_entropy_with_integer_labels,
      ... )
      >>> params = HeadedParams(trunk=jnp.eye(3), head={"kernel": jnp.ones((3, 2))})
      >>> loss.forward(params, (jnp.ones((5, 3)), jnp.zeros(5, int))).output_gradient.shape
      (5, 3)
    """

    features: Callable[[Params, Any], jax.Array]
    loss: Callable[[jax.Array, Any], jax.Array]
    needs_rows: ClassVar[bool] = True

    def losses(self, params: HeadedParams, batch: PyTree) -> jax.Array:
        """The loss of each example."""
        inputs, targets = _inputs_and_targets(batch)
        logits = _logits(params, self.features(params.trunk, inputs))
        return _checked_losses(self.loss(logits, targets), logits.shape[0])

    def forward(self, params: HeadedParams, batch: PyTree) -> Rows:
        """Features, losses and residuals of a batch ``(inputs, targets)``."""
        inputs, targets = _inputs_and_targets(batch)
        return self._rows(params, self.features(params.trunk, inputs), targets)

    def weighted_gradient(
        self, params: HeadedParams, batch: PyTree, weights: jax.Array
    ) -> tuple[Rows, Updates]:
        """One forward and one backward pass; the gradient is that of the trunk alone."""
        inputs, targets = _inputs_and_targets(batch)
        features, pull_back = jax.vjp(lambda trunk: self.features(trunk, inputs), params.trunk)
        rows = self._rows(params, features, targets)
        (grads,) = pull_back(weights.astype(features.dtype)[:, None] * rows.output_gradient)
        return rows, grads

    def predicted_part(self, params: HeadedParams) -> Params:
        """The trunk."""
        _check_headed(params)
        return params.trunk

    def complete(self, params: HeadedParams, rows: Rows | None, grads: Updates) -> Updates:
        """The head's gradient: the mean of r ⊗ (a, 1) over all rows."""
        assert rows is not None  # the forward pass of a headed loss is always complete
        count = rows.features.shape[0]
        exact = {
            "kernel": rows.features.T @ rows.residual / count,
            "bias": rows.residual.mean(axis=0),
        }
        head = jax.tree_util.tree_map_with_path(
            lambda path, param: exact[path[0].key].astype(param.dtype), params.head
        )
        return HeadedParams(grads, head)

    def _rows(self, params: HeadedParams, features: jax.Array, targets: Any) -> Rows:
        def losses(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
            each = _checked_losses(self.loss(logits, targets), logits.shape[0])
            return each.sum(), each

        residual, each = jax.grad(losses, has_aux=True)(_logits(params, features))
        return Rows(each, features, residual, residual @ params.head["kernel"].T)


@dataclasses.dataclass(frozen=True)
class WholeLoss:
    """Any loss, for predictors that need no head: all gradients are predicted.

    Attributes:
      loss_fn: ``(params, batch) -> loss of each example, [b]``.
    """

    loss_fn: Callable[[Params, Any], jax.Array]
    needs_rows: ClassVar[bool] = False

    def losses(self, params: Params, batch: PyTree) -> jax.Array:
        """The loss of each example."""
        return _checked_losses(self.loss_fn(params, batch), batch_size_of(batch))

    def forward(self, params: Params, batch: PyTree) -> Rows:
        """The losses are all there is."""
        return Rows(self.losses(params, batch))

    def weighted_gradient(
        self, params: Params, batch: PyTree, weights: jax.Array
    ) -> tuple[Rows, Updates]:
        """One forward and one backward pass."""

        def weighted(params: Params) -> tuple[jax.Array, Rows]:
            rows = self.forward(params, batch)
            return jnp.vdot(weights.astype(rows.losses.dtype), rows.losses), rows

        grads, rows = jax.grad(weighted, has_aux=True)(params)
        return rows, grads

    def predicted_part(self, params: Params) -> Params:
        """Everything."""
        return params

    def complete(self, params: Params, rows: Rows | None, grads: Updates) -> Updates:
        """Nothing to add."""
        del params, rows
        return grads


def value_and_gradient(
    loss: ExampleLoss, params: Params, batch: PyTree
) -> tuple[jax.Array, Updates]:
    """The plain gradient of the mean loss."""

    def mean(params: Params) -> jax.Array:
        return loss.losses(params, batch).mean()

    return jax.value_and_grad(mean)(params)


def per_example_gradients(
    loss: ExampleLoss, params: Params, batch: PyTree, group_size: int = 1
) -> Updates:
    """The predicted part's gradient of every example, leaves ``[b, ...]``: b times its memory.

    With a ``group_size`` above 1, the mean gradient of every so many consecutive examples.
    """

    def one(group: PyTree) -> Updates:
        weights = jnp.full(group_size, 1 / group_size)
        return loss.weighted_gradient(params, group, weights)[1]

    grouped = jax.tree.map(lambda x: x.reshape(-1, group_size, *x.shape[1:]), batch)
    return jax.vmap(one)(grouped)


def _inputs_and_targets(batch: PyTree) -> tuple[Any, Any]:
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise ValueError(
            "the mini-batch of a HeadedLoss is a pair (inputs, targets), got"
            f" {type(batch).__name__}."
        )
    return batch[0], batch[1]


def _check_headed(params: Any) -> None:
    if not isinstance(params, HeadedParams):
        raise TypeError(
            "the parameters of a HeadedLoss are HeadedParams(trunk=..., head={'kernel': ...,"
            f" 'bias': ...}}), got {type(params).__name__}."
        )
    unknown = set(params.head) - {"kernel", "bias"}
    if "kernel" not in params.head or unknown:
        raise ValueError(
            f"the head is linear, with a 'kernel' and perhaps a 'bias'; got {sorted(params.head)}."
        )


def _logits(params: HeadedParams, features: jax.Array) -> jax.Array:
    if features.ndim != 2:
        raise ValueError(
            "HeadedLoss needs one vector of features for each example, [batch, d]; `features`"
            f" returned shape {features.shape}."
        )
    logits = features @ params.head["kernel"]
    return logits + params.head["bias"][None] if "bias" in params.head else logits


def _checked_losses(losses: jax.Array, count: int) -> jax.Array:
    if jnp.shape(losses) != (count,):
        raise ValueError(
            f"the loss must return one number for each example, shape ({count},), not its mean;"
            f" got shape {jnp.shape(losses)}."
        )
    return losses
