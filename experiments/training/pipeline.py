"""An asynchronous pipeline: stages that never wait, under any Optax optimizer.

A model is cut into P stages of equal shapes, one a device. At tick t stage i runs one forward pass,
of micro-batch t - i, and one backward pass, of micro-batch t - (2(P - 1) - i), and updates its
weights at once. There is no flush, and after the first 2(P - 1) ticks no bubble. The price is
that gradients are late: when stage i updates, it has made

    τ_i = 2 (P - 1 - i)

updates since that micro-batch's forward pass. Micro-batch m meets, at every stage i, the weights
after max(0, m - τ_i) updates, and makes update m. But for the clock of each stage this is
``xgrad_optax.delayed`` with the delays τ_i. What weight prediction does about it: the forward pass
runs at the predicted weights, ``lookahead_params(params, opt_state)``.

The same code runs one stage a device (:func:`on_devices`) and all stages on one device
(:func:`on_one_device`), which is how many seeds are simulated.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

AXIS = "stage"

STASH, PREDICTED, CURRENT, ESTIMATED = "stash", "predicted", "current", "estimated"
BACKWARD = {
    STASH: "the weights of the micro-batch's own forward pass, kept in a ring (PipeDream)",
    PREDICTED: "the weights that are predicted now; nothing is kept",
    CURRENT: "the weights as they are now; nothing is kept",
    ESTIMATED: "what the optimizer takes those of the forward pass for, "
    "``past_params(params, opt_state)``; nothing is kept (PipeMare)",
}


class Cut(NamedTuple):
    """A model cut into stages.

    The parameters of a stage are a tree of the same shapes on every device. What only the first or
    the last stage uses is held by all of them: a device's program is the same everywhere.

    Attributes:
        enter: ``(params, batch) -> x``, of the first stage.
        block: ``(params, x) -> x``, of every stage; x keeps its shape.
        loss: ``(params, x, batch) -> loss``, of the last stage.
    """

    enter: Callable[[Any, Any], jax.Array]
    block: Callable[[Any, jax.Array], jax.Array]
    loss: Callable[[Any, jax.Array, Any], jax.Array]


class Pipeline(NamedTuple):
    """What runs.

    Attributes:
        cut: the model.
        stages: P.
        optimizer: from the stage's number, an array of shape ``()``, to an Optax transform or a
            prediction such as ``xgrad_optax.adamw(1e-3, s=horizons[stage])``.
        batch_of: ``(data, m) -> micro-batch m``.
        backward: at which weights the forward pass is computed again and differentiated; a key
            into ``BACKWARD``.
    """

    cut: Cut
    stages: int
    optimizer: Callable[[jax.Array], Any]
    batch_of: Callable[[Any, jax.Array], Any]
    backward: str = STASH

    @property
    def ring_length(self) -> int:
        """Micro-batches between the first stage's two passes, both included."""
        return 2 * self.stages - 1


class Stage(NamedTuple):
    """All that one stage holds between two ticks.

    Attributes:
        params: its weights.
        opt_state: its optimizer's state.
        tick: int32, shape ``()``: how many ticks have passed.
        arrived: what the stage before sent, the input of the next forward pass.
        cotangent: of its input at the last backward pass, to be sent to the stage before.
        inputs: a ring of the inputs of its last 2P - 1 forward passes.
        weights: a ring of their weights; None unless ``backward`` is ``"stash"``.
    """

    params: Any
    opt_state: Any
    tick: jax.Array
    arrived: jax.Array
    cotangent: jax.Array
    inputs: jax.Array
    weights: Any


class Seen(NamedTuple):
    """What a stage reports of a tick.

    Attributes:
        loss: of the forward pass, at its weights; NaN where no micro-batch came to its end.
        broken: whether an output or an updated weight was not finite.
    """

    loss: jax.Array
    broken: jax.Array


# --------------------------------------------------------------------------------------------------
# One stage
# --------------------------------------------------------------------------------------------------


def begin(pipeline: Pipeline, data: Any, params: Any) -> Stage:
    """A stage with these weights and nothing in flight.

    Raises:
        ValueError: the stages do not fit the devices or each other, or ``backward`` is unknown.
    """
    optimizer = pipeline.optimizer(jax.lax.axis_index(AXIS))
    x = jax.eval_shape(lambda: pipeline.cut.enter(params, pipeline.batch_of(data, jnp.int32(0))))
    _check(pipeline, params, x)
    nothing = jnp.zeros(x.shape, x.dtype)

    def ring(like: jax.Array) -> jax.Array:
        return jnp.zeros((pipeline.ring_length, *like.shape), like.dtype)

    stash = jax.tree.map(ring, params) if pipeline.backward == STASH else None
    opt_state = optimizer.init(params)
    return Stage(params, opt_state, jnp.int32(0), nothing, nothing, ring(nothing), stash)


def tick(pipeline: Pipeline, data: Any, stage: Stage) -> tuple[Stage, Seen]:
    """One forward pass, one backward pass and the update; a stage's whole program."""
    number, last = jax.lax.axis_index(AXIS), pipeline.stages - 1
    entering, leaving = stage.tick - number, stage.tick - (2 * last - number)
    optimizer = pipeline.optimizer(number)
    predicted = point(optimizer, stage.params, stage.opt_state)

    # Nothing of the forward pass needs what is received here: it can arrive meanwhile.
    returned = send(stage.cotangent, pipeline.stages, -1)
    output, loss = passed(pipeline, data, entering, predicted, stage.arrived)
    arrived = send(output, pipeline.stages, 1)  # meanwhile: the backward pass

    kept = stage.arrived, predicted if pipeline.backward == STASH else None
    rings = _written((stage.inputs, stage.weights), kept, entering % pipeline.ring_length)
    x, stashed = _read(rings, leaving % pipeline.ring_length)
    weights = _of_backward(pipeline.backward, optimizer, stage, stashed, predicted)
    grads, cotangent = differentiated(pipeline, data, leaving, weights, x, returned)

    updates, opt_state = optimizer.update(grads, stage.opt_state, stage.params)
    params = optax.apply_updates(stage.params, updates)
    updated, before = (params, opt_state), (stage.params, stage.opt_state)
    params, opt_state = optax.tree.where(leaving >= 0, updated, before)
    ends = (number == last) & (entering >= 0)
    broken = (entering >= 0) & ~_all_finite(output) | ~_all_finite(params)
    seen = Seen(jnp.where(ends, loss, jnp.nan), broken)
    return Stage(params, opt_state, stage.tick + 1, arrived, cotangent, *rings), seen


def _of_backward(backward: str, optimizer: Any, stage: Stage, stashed: Any, predicted: Any) -> Any:
    if backward == ESTIMATED:
        return optimizer.past_params(stage.params, stage.opt_state)
    return {STASH: stashed, PREDICTED: predicted, CURRENT: stage.params}[backward]


def _check(pipeline: Pipeline, params: Any, x: jax.ShapeDtypeStruct) -> None:
    if pipeline.backward not in BACKWARD:
        raise ValueError(
            f"backward must be one of {', '.join(BACKWARD)}, got {pipeline.backward!r}."
        )
    if (present := jax.lax.axis_size(AXIS)) != pipeline.stages:
        raise ValueError(
            f"The pipeline has {pipeline.stages} stages, but the axis {AXIS!r} has a size of"
            f" {present}: give it one device for each stage."
        )
    output = jax.eval_shape(pipeline.cut.block, params, x)
    if (output.shape, output.dtype) != (x.shape, x.dtype):
        raise ValueError(
            "The output of a block is the next one's input, so `block` must keep shape and dtype;"
            f" it makes {output.dtype}{list(output.shape)} of {x.dtype}{list(x.shape)}."
        )


def ticks(pipeline: Pipeline, data: Any, stage: Stage, number: int) -> tuple[Stage, Seen]:
    """So many ticks in one program; what is reported has an axis for them in front."""
    return jax.lax.scan(lambda s, _: tick(pipeline, data, s), stage, length=number)


def point(optimizer: Any, params: Any, opt_state: Any) -> Any:
    """The predicted weights; those themselves for a plain transform."""
    predict = getattr(optimizer, "lookahead_params", None)
    return predict(params, opt_state) if predict else params


def passed(
    pipeline: Pipeline, data: Any, number: jax.Array, weights: Any, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What a stage makes of its input for a micro-batch: its output, and the loss if it is last."""
    cut, stage = pipeline.cut, jax.lax.axis_index(AXIS)
    batch = pipeline.batch_of(data, number)
    x = jax.lax.cond(stage == 0, lambda: cut.enter(weights, batch), lambda: x)
    output = cut.block(weights, x)
    is_last = stage == pipeline.stages - 1
    like = jax.eval_shape(cut.loss, weights, output, batch)
    loss = jax.lax.cond(
        is_last, lambda: cut.loss(weights, output, batch), lambda: jnp.zeros([], like.dtype)
    )
    return output, loss


def differentiated(
    pipeline: Pipeline, data: Any, number: jax.Array, weights: Any, x: jax.Array, returned: Any
) -> tuple[Any, jax.Array]:
    """The gradients of a stage's weights and of its input, given that of its output."""

    def function(weights: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return passed(pipeline, data, number, weights, x)

    (_, loss), pullback = jax.vjp(function, weights, x)
    return pullback((returned, jnp.ones_like(loss)))


def send(x: jax.Array, stages: int, by: int) -> jax.Array:
    """Sends to the next stage or to the one before; returns what comes from the other side.

    It goes round: what the last stage sends to the first is not used there, and the first sends
    the last a cotangent of zero.
    """
    return jax.lax.ppermute(x, AXIS, [(i, (i + by) % stages) for i in range(stages)])


def _written(rings: Any, entries: Any, slot: jax.Array) -> Any:
    return jax.tree.map(lambda ring, entry: ring.at[slot].set(entry), rings, entries)


def _read(rings: Any, slot: jax.Array) -> Any:
    return jax.tree.map(lambda ring: ring[slot], rings)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


# --------------------------------------------------------------------------------------------------
# All stages
# --------------------------------------------------------------------------------------------------


def on_devices(mesh: Mesh, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Runs ``(data, of one stage) -> of one stage`` on a device for each stage.

    Args:
        mesh: has an axis ``"stage"``.
        function: of one stage, such as :func:`begin` and :func:`ticks` of a pipeline.

    Returns:
        The function of all stages: leaves have an axis for them in front, split over the devices.
    """
    specs = PartitionSpec(), PartitionSpec(AXIS)

    def of_a_device(data: Any, stages: Any) -> Any:
        result = function(data, jax.tree.map(lambda leaf: leaf[0], stages))
        return jax.tree.map(lambda leaf: leaf[None], result)

    return jax.shard_map(
        of_a_device, mesh=mesh, in_specs=specs, out_specs=specs[1], check_vma=False
    )


def on_one_device(stages: int, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The same on one device, for as many stages as wanted."""
    return jax.vmap(function, in_axes=(None, 0), axis_name=AXIS, axis_size=stages)
