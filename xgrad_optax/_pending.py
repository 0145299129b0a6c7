"""Gradients in flight: a ring per leaf that holds the last ones until they are applied.

A ring, not a list that moves up: each step reads one entry and writes one, whatever the delay.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from xgrad_optax._checks import check_alike
from xgrad_optax._states import describe_states, find_states
from xgrad_optax._trees import map_present
from xgrad_optax._typing import OptState, Params, PyTree, Updates


class DelayedState(NamedTuple):
    """State of :func:`xgrad_optax.delayed`.

    Attributes:
      pending: the gradients in flight, a tree like the parameters whose leaves have one axis more,
        in front, of length ``delay``; as they were taken, not yet reduced. The oldest lies at
        ``position % delay``, where the next one is written.
      position: int32, shape ``()``. Below ``delay`` it is the number of gradients in flight; from
        ``delay`` on the ring is full, and it goes round from ``delay`` to ``2 * delay - 1``.
      inner_state: the state of the transform that the oldest gradient is given to.
    """

    pending: Updates
    position: jax.Array
    inner_state: OptState


def nothing_pending(params: Params, delay: int) -> Updates:
    """The rings before the first gradient: zeros of the parameters' dtypes, placed as they are."""

    def ring(param: Any) -> jax.Array:
        zeros = jnp.zeros_like(param)
        return jnp.broadcast_to(zeros, (delay, *zeros.shape))

    return jax.tree.map(ring, params)


def oldest_pending(pending: Updates, grads: Updates, slot: jax.Array) -> Updates:
    """The gradients in flight for longest; ``None`` where ``grads`` have none."""

    def oldest(grad: Any, ring: jax.Array) -> jax.Array:
        del grad
        return jax.lax.dynamic_index_in_dim(ring, slot, keepdims=False)

    return map_present(oldest, grads, pending)


def replaced(pending: Updates, grads: Updates, slot: jax.Array) -> Updates:
    """The rings with ``grads`` in the place of the oldest; as before where there are none."""

    def written(ring: jax.Array, grad: Any) -> jax.Array:
        if grad is None:
            return ring
        return jax.lax.dynamic_update_index_in_dim(ring, grad.astype(ring.dtype), slot, 0)

    rings, structure = jax.tree.flatten(pending)
    return structure.unflatten(map(written, rings, structure.flatten_up_to(grads)))


def check_pending(state: OptState, grads: Updates, delay: int) -> None:
    """Refuses states that were made for no delay, or another, or for other parameters."""
    if not isinstance(state, DelayedState):
        raise ValueError(
            "This state was not made by the `init` of delayed(...); it is"
            f" {describe_states(state)}. To go on from it with nothing in flight:"
            " `tx.init(params)._replace(inner_state=opt_state)`."
        )
    lengths = {jnp.shape(ring)[0] for ring in jax.tree.leaves(state.pending)}
    if lengths - {delay}:
        raise ValueError(
            f"The state has {max(lengths)} gradients in flight, but the delay is {delay}: make a"
            " new state and go on with nothing in flight,"
            " `tx.init(params)._replace(inner_state=opt_state.inner_state)`. (Inside shard_map"
            " each device has its own gradients in flight: see `pending_specs`.)"
        )
    check_alike(jax.tree.map(lambda ring: ring[0], state.pending), grads)


def advanced_position(position: jax.Array, delay: int) -> jax.Array:
    """The position after one more gradient; it never overflows."""
    following = position + 1
    return jnp.where(following == 2 * delay, delay, following)


def pending_specs(opt_state: OptState, axis: str | tuple[str, ...]) -> PyTree:
    """Returns how the state of :func:`xgrad_optax.delayed` lies over the devices of ``shard_map``.

    The gradients in flight are each device's own; everything else is the same everywhere. So the
    rings of D devices make one array whose first axis has D·delay entries.

    Args:
      opt_state: the outermost state, or its shapes from ``jax.eval_shape(tx.init, params)``.
      axis: name of the mesh axis (or axes) over which the batch is split.

    Returns:
      A tree like ``opt_state`` of :class:`jax.sharding.PartitionSpec`, for ``in_specs`` and
      ``out_specs``: ``P(axis)`` for the gradients in flight, ``P()`` for all else.

    Raises:
      ValueError: ``opt_state`` has no gradients in flight.

    Examples:
      >>> import jax
      >>> from jax.sharding import PartitionSpec as P
      >>> from xgrad_optax import delayed, sgdm
      >>> tx = delayed(sgdm(0.1), 2).tx
      >>> specs = pending_specs(jax.eval_shape(tx.init, 1.0), "data")
      >>> specs.pending == P("data"), specs.position == P()
      (True, True)
    """
    return _map_pending(opt_state, lambda _: PartitionSpec(axis), lambda _: PartitionSpec())


def spread_pending(opt_state: OptState, devices: int, *, onto: int) -> OptState:
    """Takes a state with gradients in flight from one number of devices to another.

    Each entry becomes the mean of the devices' gradients, the same on every new device: what is
    still to be applied is what it would have been, to rounding, if it is reduced by a mean.
    (Predictions that look at a device's own gradients, ``in_flight=True``, see the mean.)

    Args:
      opt_state: the outermost state with the rings of all devices, as :func:`pending_specs` lays
        them out.
      devices: how many devices they come from, >= 1.
      onto: how many they go to, >= 1.

    Returns:
      The state for ``onto`` devices, as plain arrays to be placed by the same specs.

    Raises:
      ValueError: ``opt_state`` has no gradients in flight, or not those of so many devices.

    Examples:
      >>> import jax.numpy as jnp
      >>> from xgrad_optax import delayed, sgdm
      >>> state = delayed(sgdm(0.1), 1).init(jnp.zeros([]))
      >>> state = state._replace(pending=jnp.array([1.0, 3.0]))  # of two devices
      >>> spread_pending(state, 2, onto=3).pending.tolist()
      [2.0, 2.0, 2.0]
    """

    def spread(rings: jax.Array) -> jax.Array:
        entries, *shape = jnp.shape(rings)
        if devices < 1 or onto < 1 or entries % devices:
            raise ValueError(
                f"A ring of {entries} entries is not that of {devices} devices: pass how many"
                " devices the state was made on, and how many it goes to, both at least 1."
            )
        mean = rings.reshape(devices, entries // devices, *shape).mean(0)
        return jnp.tile(mean, (onto, *(1 for _ in shape)))

    return _map_pending(opt_state, spread, lambda x: x)


def _map_pending(opt_state: OptState, pending: Any, other: Any) -> PyTree:
    """A tree like ``opt_state`` with one function applied to its rings, another to the rest."""
    if not find_states(opt_state, DelayedState):
        raise ValueError(
            "No gradients are in flight in this state: it was not made by the `init` of"
            f" delayed(...). It holds {describe_states(opt_state)}."
        )

    def visit(node: Any) -> Any:
        if not isinstance(node, DelayedState):
            return other(node)
        return DelayedState(
            jax.tree.map(pending, node.pending),
            other(node.position),
            jax.tree.map(visit, node.inner_state, is_leaf=_is_delayed),
        )

    return jax.tree.map(visit, opt_state, is_leaf=_is_delayed)


def _is_delayed(x: Any) -> bool:
    return isinstance(x, DelayedState)
