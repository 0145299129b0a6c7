"""Gradients that arrive late: each is applied a fixed number of updates after it was taken."""

from collections.abc import Callable
from typing import Any, overload

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._checks import checked_delayable, checked_delays
from xgrad_optax._forms import with_weight_prediction
from xgrad_optax._pending import DelayedState, Ring
from xgrad_optax._points import lookahead_params
from xgrad_optax._prediction import Prediction, WeightPrediction
from xgrad_optax._typing import OptState, Params, PyTree, Updates
from xgrad_optax.predictors._base import zero_before
from xgrad_optax.predictors._in_flight import InFlight

Reduce = Callable[[Updates], Updates]


@overload
def delayed(
    prediction: WeightPrediction,
    delay: PyTree,
    *,
    reduce: Reduce | None = None,
    in_flight: bool = False,
) -> WeightPrediction: ...
@overload
def delayed(
    prediction: optax.GradientTransformation,
    delay: PyTree,
    *,
    reduce: Reduce | None = None,
    in_flight: bool = False,
) -> optax.GradientTransformationExtraArgs: ...
def delayed(
    prediction: Any, delay: Any, *, reduce: Reduce | None = None, in_flight: bool = False
) -> Any:
    r"""Applies each gradient ``delay`` updates after it was taken.

    .. math::
        \theta_{t+1} = \theta_t + U(g_{t-\tau}, S_t, \theta_t), \qquad
        g_t = \nabla f(\hat\theta_t)

    with :math:`\tau` the delay. While the first τ gradients are on their way nothing is applied: a
    run of n + τ steps makes n updates. This is what an all-reduce that runs under the next step's
    computation does to training, and what an asynchronous pipeline does; τ late gradients shrink
    the stable learning rates (:mod:`xgrad_optax.stability` says how far), and predicting τ + 1
    steps ahead gives much of that back: ``zero_gradient()`` with s = τ + 1, or its closed form
    (``damped=True`` of the named optimizers).

    Args:
      prediction: what a named optimizer or :func:`with_weight_prediction` returns (``s=0``: late
        gradients without prediction); or a transform, such as those of the drop-in and in-place
        forms.
      delay: τ, a whole number >= 0; 0 is the prediction itself. Or a tree of them, of the
        parameters' structure or a prefix of it: each group of leaves with the same delay then has
        a state of its own, as the stages of a pipeline have.
      reduce: for gradients of which each device has its own part, such as
        ``lambda grads: jax.lax.pmean(grads, "data")`` inside of ``jax.shard_map``. It is given the
        oldest gradients only, so that nothing it communicates depends on this step's; and the
        update waits for this step's gradients, without which XLA would run it first and alone.
      in_flight: whether to predict with the gradients in flight, which are this device's own, in
        place of the predictor: the optimizer is rolled out over them, and then over zero
        gradients, s steps in all, second moments included. Best with s = τ + 1.

    Returns:
      ``(lookahead_params, tx)``, or a transform where one was given. The state,
      :class:`~xgrad_optax.DelayedState`, holds τ trees like the parameters besides the inner one,
      and without ``reduce`` one more from τ = 2 on.

    Raises:
      TypeError: ``delay`` is no whole number; ``in_flight`` for a mere transform.
      ValueError: ``delay`` is negative; at ``update``: the state was made for another delay.

    Examples:
      >>> import jax, jax.numpy as jnp, xgrad_optax
      >>> lookahead_params, tx = delayed(xgrad_optax.sgdm(0.02, s=3, damped=True), 2)
      >>> loss_fn = lambda params: 0.5 * jnp.sum((params - 1.0) ** 2)
      >>> params = jnp.zeros(3)
      >>> opt_state = tx.init(params)
      >>> for _ in range(200):
      ...     grads = jax.grad(loss_fn)(lookahead_params(params, opt_state))
      ...     updates, opt_state = tx.update(grads, opt_state, params)
      ...     params = params + updates
      >>> bool(loss_fn(params) < 1e-3)
      True

    References:
      The delayed all-reduce with prediction and the in-flight roll-out are this library's; late
      gradients with prediction: PipeMare, arXiv 1910.05124; SpecTrain, arXiv 1809.02839.
    """
    checked_delayable(prediction, in_flight)
    delays = checked_delays(delay)
    if not isinstance(delays, int):
        return _by_group(prediction, delays, reduce, in_flight)
    if delays == 0:
        return prediction if reduce is None else _with(prediction, lambda tx: _reduced(tx, reduce))
    ring = Ring(delays, reads_first=reduce is not None)
    if in_flight:
        return _predicting_in_flight(prediction.prediction, ring, reduce)
    return _with(prediction, lambda tx: _late(tx, ring, reduce))


def _with(prediction: Any, change: Callable[[Any], optax.GradientTransformationExtraArgs]) -> Any:
    """The prediction, or transform, with another transform in place of its own."""
    if not isinstance(prediction, WeightPrediction):
        return change(prediction)
    parts = prediction.prediction
    parts = parts and parts._replace(inner=change(parts.inner))
    return WeightPrediction.of(parts, prediction.lookahead_params, change(prediction.tx))


def _late(
    inner: optax.GradientTransformation, ring: Ring, reduce: Reduce | None
) -> optax.GradientTransformationExtraArgs:
    """``inner``, given the gradients ``delay`` updates after they were taken, and reduced."""
    inner = optax.with_extra_args_support(inner)

    def init_fn(params: Params) -> OptState:
        with jax.numpy_dtype_promotion("standard"):
            inner_state = inner.init(params)
        return DelayedState(ring.empty(params), jnp.zeros([], jnp.int32), inner_state)

    def update_fn(
        updates: Updates, state: OptState, params: Params | None = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        ring.check(state, updates)
        oldest, pending = ring.exchanged(state.pending, state.position, updates, reduce)
        with jax.numpy_dtype_promotion("standard"):  # Optax relies on it
            steps, inner_state = inner.update(oldest, state.inner_state, params, **extra_args)
        is_full = state.position >= ring.delay
        inner_state = optax.tree.where(is_full, inner_state, state.inner_state)
        position = ring.following(state.position)
        return zero_before(is_full, steps), DelayedState(pending, position, inner_state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _reduced(
    inner: optax.GradientTransformation, reduce: Reduce
) -> optax.GradientTransformationExtraArgs:
    """``inner``, given the reduction of this step's gradients."""
    inner = optax.with_extra_args_support(inner)

    def update_fn(
        updates: Updates, state: OptState, params: Params | None = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        return inner.update(reduce(updates), state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(inner.init, update_fn)


def _predicting_in_flight(parts: Prediction, ring: Ring, reduce: Reduce | None) -> WeightPrediction:
    """The late optimizer, predicted by rolling out the optimizer over what is in flight."""
    predictor = InFlight.of(parts.inner, ring)
    return with_weight_prediction(_late(parts.inner, ring, reduce), parts.s, predictor=predictor)


def _by_group(prediction: Any, delays: PyTree, reduce: Reduce | None, in_flight: bool) -> Any:
    """Leaves of one delay share a state, as those of a pipeline's stage do."""
    groups = {
        delay: delayed(prediction, delay, reduce=reduce, in_flight=in_flight)
        for delay in sorted(set(jax.tree.leaves(delays)))
    }
    if not isinstance(prediction, WeightPrediction):
        return optax.partition(groups, delays)
    tx = optax.partition({delay: group.tx for delay, group in groups.items()}, delays)
    return WeightPrediction.of(None, lookahead_params, optax.with_extra_args_support(tx))
