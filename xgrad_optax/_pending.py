"""Gradients in flight: a ring per leaf that holds the last ones until they are applied.

A ring, not a list that moves up: each step reads one entry and writes one, whatever the delay.
"""

from collections.abc import Callable
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
        in front: a ring of the last ones as they were taken, not yet reduced. The next one is
        written at ``position`` modulo its length.
      position: int32, shape ``()``. Below ``delay`` it is the number of gradients in flight; from
        ``delay`` on as many are, and it goes round.
      inner_state: the state of the transform that the oldest gradient is given to.
    """

    pending: Updates
    position: jax.Array
    inner_state: OptState


class Ring(NamedTuple):
    """How gradients wait for ``delay`` updates.

    Attributes:
      delay: how many, >= 1.
      reads_first: whether the oldest gradient must not depend on the one that is written, so that
        its reduction can begin before that one is there. The oldest then makes room for it.
        Otherwise the ring has an entry more, is written first, and nothing has to be copied: of a
        read and a write in the same place XLA on a CPU makes a copy of the whole ring.
    """

    delay: int
    reads_first: bool

    @property
    def length(self) -> int:
        """The number of entries; one is enough where the ring is but an exchange."""
        return self.delay if self.reads_first or self.delay == 1 else self.delay + 1

    def empty(self, params: Params) -> Updates:
        """The rings before the first gradient: zeros of the parameters' dtypes, placed as they."""

        def zeros(param: Any) -> jax.Array:
            zeros = jnp.zeros_like(param)
            return jnp.broadcast_to(zeros, (self.length, *zeros.shape))

        return jax.tree.map(zeros, params)

    def exchanged(
        self,
        pending: Updates,
        position: jax.Array,
        grads: Updates,
        reduce: Callable[[Updates], Updates] | None,
    ) -> tuple[Updates, Updates]:
        """The oldest gradients, reduced, and the rings with ``grads`` among those in flight.

        A leaf without a gradient (``None``) has none in flight either.
        """
        slot = position % self.length
        if self.length > self.delay:
            pending = _written(pending, grads, slot)
            return _read(pending, grads, (position + 1) % self.length), pending
        oldest = _read(pending, grads, slot)
        if reduce is not None:
            _check_not_reduced(grads, oldest)
            oldest, grads = _tied(reduce(oldest), grads)
        return oldest, _written(pending, grads, slot)

    def upcoming(self, pending: Updates, position: jax.Array, k: Any) -> Updates:
        """The gradients that will be applied k steps from now; zeros from ``delay`` on."""
        ahead = k if self.length == self.delay else k + 1

        def entry(ring: jax.Array) -> jax.Array:
            waiting = jax.lax.dynamic_index_in_dim(
                ring, (position + ahead) % self.length, keepdims=False
            )
            return jnp.where(k < self.delay, waiting, jnp.zeros_like(waiting))

        return jax.tree.map(entry, pending)

    def following(self, position: jax.Array) -> jax.Array:
        """The position after one more gradient; it never overflows."""
        position = position + 1
        return jnp.where(position == self.delay + self.length, self.delay, position)

    def check(self, state: OptState, grads: Updates) -> None:
        """Refuses states that were made for no delay, or another, or for other parameters."""
        if not isinstance(state, DelayedState):
            raise ValueError(
                "This state was not made by the `init` of delayed(...); it is"
                f" {describe_states(state)}. To go on from it with nothing in flight:"
                " `tx.init(params)._replace(inner_state=opt_state)`."
            )
        for ring in jax.tree.leaves(state.pending):
            if (length := jnp.shape(ring)[0]) != self.length:
                raise ValueError(
                    f"The state has rings of {length} gradients, but a delay of {self.delay} needs"
                    f" {self.length}: make a new state and go on with nothing in flight,"
                    " `tx.init(params)._replace(inner_state=opt_state.inner_state)`. (In shard_map"
                    " each device has its own gradients in flight: see `pending_specs`.)"
                )
        check_alike(jax.tree.map(lambda ring: ring[0], state.pending), grads)


def _tied(reduced: Updates, grads: Updates) -> tuple[Updates, Updates]:
    """Both as they are, the first no sooner than the second.

    Nothing makes the reduction wait, but what uses it waits for this step's gradients: the compiler
    may then run the one under the computation of the others. Where the types say over which devices
    a value varies, they would say of both that they do, so nothing is tied there.
    """
    if _varying(grads):
        return reduced, grads
    return jax.lax.optimization_barrier((reduced, grads))


def _check_not_reduced(grads: Updates, oldest: Updates) -> None:
    """Refuses gradients that have been added up over devices before they came here."""
    if reduced := sorted(_varying(oldest) - _varying(grads)):
        raise ValueError(
            f"The gradients are already summed over {reduced}, and reducing them again would scale"
            " them by the number of devices: in shard_map, JAX sums the gradients of parameters"
            " that are the same on all devices. Use jax.shard_map(..., check_vma=False), or take"
            " the gradient at jax.lax.pcast(predicted, axis, to='varying')."
        )


def _varying(tree: PyTree) -> set[str]:
    """Names of the mesh axes over which the types say that something varies."""
    axes: set[str] = set()
    for leaf in jax.tree.leaves(tree):
        aval = jax.typeof(leaf)
        manual = getattr(aval, "manual_axis_type", None)  # of JAX 0.10; it was `vma` itself before
        axes |= manual.varying if manual is not None else getattr(aval, "vma", frozenset())
    return axes


def _read(pending: Updates, grads: Updates, slot: jax.Array) -> Updates:
    """The entry at ``slot``; ``None`` where ``grads`` have none."""

    def entry(grad: Any, ring: jax.Array) -> jax.Array:
        del grad
        return jax.lax.dynamic_index_in_dim(ring, slot, keepdims=False)

    return map_present(entry, grads, pending)


def _written(pending: Updates, grads: Updates, slot: jax.Array) -> Updates:
    """The rings with ``grads`` at ``slot``; as before where there are none."""

    def written(ring: jax.Array, grad: Any) -> jax.Array:
        if grad is None:
            return ring
        return jax.lax.dynamic_update_index_in_dim(ring, grad.astype(ring.dtype), slot, 0)

    rings, structure = jax.tree.flatten(pending)
    return structure.unflatten(map(written, rings, structure.flatten_up_to(grads)))


def pending_specs(opt_state: OptState, axis: str | tuple[str, ...]) -> PyTree:
    """Returns how the state of :func:`xgrad_optax.delayed` lies over the devices of ``shard_map``.

    The gradients in flight are each device's own; everything else is the same everywhere. So the
    rings of D devices make one array whose first axis is D times as long.

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
