r"""How good was a prediction? Measured during training, measured afterwards, and bounded.

After t updates a predictor says where the parameters will be h updates later; h updates later one
can look. Two numbers compare the predicted with the actual movement:

.. math::
    e_t^h = \frac{\lVert\hat\theta_{t+h} - \theta_{t+h}\rVert}{\lVert\theta_{t+h} - \theta_t\rVert},
    \qquad
    c_t^h = \cos(\hat\theta_{t+h} - \theta_t,\; \theta_{t+h} - \theta_t)

Without prediction (s = 0) :math:`\hat\theta = \theta_t` and the relative error e is 1: a prediction
below 1 is nearer to the future parameters than the present ones are. All states of the explicit
form (:func:`xgrad_optax.with_weight_prediction`, the named optimizers) and of the in-place form can
be measured, whatever s they train with. Train with ``s=0`` to see how several predictors do on the
*same* trajectory.

For smooth losses :func:`sgdm_error_bound` and :func:`adam_error_bound` say beforehand how wrong a
prediction can be.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from xgrad_optax import _rings
from xgrad_optax._adam_error_bound import adam_error_bound
from xgrad_optax._agreement import ErrorStatistics, RunningMoments, agree, over_moments, total, wide
from xgrad_optax._checks import checked_whole_number
from xgrad_optax._nesting import merge_into
from xgrad_optax._points import base_point, measurable_states
from xgrad_optax._prediction import predicted_by
from xgrad_optax._rings import Layout, checked_horizons, thinned
from xgrad_optax._sgdm_error_bound import sgdm_error_bound
from xgrad_optax._trees import arrays_of
from xgrad_optax._typing import OptState, Params, PyTree, Updates

__all__ = [
    "ErrorStatistics",
    "PredictionErrorMetric",
    "PredictionErrorState",
    "PredictionErrorSummary",
    "adam_error_bound",
    "prediction_error",
    "sgdm_error_bound",
    "trajectory_prediction_error",
]

DEFAULT_HORIZONS = tuple(range(1, 11))


class PredictionErrorSummary(NamedTuple):
    """The result of a measurement.

    Attributes:
      horizons: the horizons h in steps, ascending, ``[horizons]``, int32.
      overall: statistics over all parameters together, as one vector.
      per_leaf: a tree like the parameters with an :class:`ErrorStatistics` in place of each leaf.
    """

    horizons: jax.Array
    overall: ErrorStatistics
    per_leaf: PyTree


class PredictionErrorState(NamedTuple):
    """State of :func:`prediction_error`; structure, shapes and dtypes never change.

    Attributes:
      count: number of updates seen, shape ``()``, int32.
      params: ring buffer of the last parameters, leaves ``[max(horizons), ...]``.
      displacements: the last predictions, leaves ``[max(horizons), ...]`` for predictors that are
        linear in s; else one ring buffer ``[h, ...]`` for each horizon h behind the other.
      overall: running moments over all parameters, by horizon.
      per_leaf: the same for each leaf, in a tree like the parameters.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (tuple.count)
    params: Params
    displacements: Updates
    overall: RunningMoments
    per_leaf: PyTree


class PredictionErrorMetric(NamedTuple):
    """What :func:`prediction_error` returns: four pure functions.

    Attributes:
      init: ``(params, opt_state) -> state``.
      update: ``(state, params, opt_state) -> state``, once after each update of the parameters.
      summary: ``(state) -> PredictionErrorSummary``.
      reset: ``(state) -> state`` that starts new means, as of an epoch, and keeps the buffers.
    """

    init: Callable[[Params, OptState], PredictionErrorState]
    update: Callable[[PredictionErrorState, Params, OptState], PredictionErrorState]
    summary: Callable[[PredictionErrorState], PredictionErrorSummary]
    reset: Callable[[PredictionErrorState], PredictionErrorState]


def prediction_error(
    horizons: Sequence[int] = DEFAULT_HORIZONS, *, max_entries: int | None = None
) -> PredictionErrorMetric:
    r"""Measures during training how good the predictions are, by horizon and by leaf.

    The state lives in the training loop, under ``jit``, ``scan``, ``vmap`` and donation, and is
    sharded as the parameters are. Call ``update`` once after each update; predictions made before
    the first call are not judged.

    **Cost.** Judging horizon h needs what was predicted h steps ago. With H the largest horizon,
    linear predictors (``last_update``, the closed forms) keep H trees of parameters and H of
    predictions, others (``zero_gradient``, your own) H and Σh: at the default 20 or 65 times the
    parameters, at ``horizons=(1,)`` 2. A call reads two trees per horizon and writes two, or one
    more per horizon.

    Args:
      horizons: how many updates ahead to judge, whole numbers >= 1.
      max_entries: judge at most this many entries of each leaf, evenly spread over it; ``None`` for
        all. Bounds memory and cost for large models. (Sharded leaves are gathered for this.)

    Returns:
      A :class:`PredictionErrorMetric`.

    Raises:
      TypeError: a horizon or ``max_entries`` is not a whole number.
      ValueError: one is below 1, or there are no horizons, or two are the same; at ``init`` and
        ``update``: ``opt_state`` holds no prediction of the explicit form, or ``params`` have
        another shape than at ``init``.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, xgrad_optax
      >>> from xgrad_optax import diagnostics
      >>> lookahead_params, tx = xgrad_optax.sgdm(0.01, s=1)
      >>> measure = diagnostics.prediction_error(horizons=(1, 4))
      >>> params = jnp.array([1.0, -2.0])
      >>> opt_state = tx.init(params)
      >>> state = measure.init(params, opt_state)
      >>> @jax.jit
      ... def train_step(params, opt_state, state):
      ...     grads = jax.grad(lambda p: jnp.sum(p**2))(lookahead_params(params, opt_state))
      ...     updates, opt_state = tx.update(grads, opt_state, params)
      ...     params = optax.apply_updates(params, updates)
      ...     return params, opt_state, measure.update(state, params, opt_state)
      >>> for _ in range(20):
      ...     params, opt_state, state = train_step(params, opt_state, state)
      >>> one_step, four_steps = measure.summary(state).overall.relative_error
      >>> bool(one_step < four_steps < 1)  # better than no prediction, and better at short range
      True
    """
    horizons = checked_horizons(horizons)
    if max_entries is not None:
        max_entries = checked_whole_number(max_entries, "max_entries")

    def thin(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: thinned(leaf, max_entries), tree)

    def init_fn(params: Params, opt_state: OptState) -> PredictionErrorState:
        layout = Layout.of(horizons, linear=_is_linear(opt_state))
        base = arrays_of(base_point(params, opt_state))
        thinned = thin(base)
        return PredictionErrorState(
            jnp.zeros([], jnp.int32),
            _rings.empty(thinned, horizons[-1]),
            _rings.empty(thin(_displacement(base, opt_state, 1)), layout.length),
            RunningMoments.create(horizons),
            jax.tree.map(lambda _: RunningMoments.create(horizons), thinned),
        )

    def update_fn(
        state: PredictionErrorState, params: Params, opt_state: OptState
    ) -> PredictionErrorState:
        layout = Layout.of(horizons, linear=_is_linear(opt_state))
        base = arrays_of(base_point(params, opt_state))
        thinned = thin(base)
        _rings.check_same_shapes(state.params, thinned)
        per_leaf = _agreement_by_leaf(state, thinned, layout)
        known = state.count >= jnp.asarray(horizons, jnp.int32)
        return PredictionErrorState(
            state.count + 1,
            _rings.write(state.params, thinned, state.count % horizons[-1]),
            layout.write(
                state.displacements,
                lambda h: thin(_displacement(base, opt_state, h)),
                state.count,
            ),
            state.overall.observe(total(per_leaf, len(horizons)), known),
            over_moments(lambda m, a: m.observe(a, known), state.per_leaf, per_leaf),
        )

    def summary_fn(state: PredictionErrorState) -> PredictionErrorSummary:
        per_leaf = over_moments(RunningMoments.statistics, state.per_leaf)
        return PredictionErrorSummary(
            jnp.asarray(horizons, jnp.int32), state.overall.statistics(), per_leaf
        )

    def reset_fn(state: PredictionErrorState) -> PredictionErrorState:
        overall, per_leaf = optax.tree.zeros_like((state.overall, state.per_leaf))
        return state._replace(overall=overall, per_leaf=per_leaf)

    return PredictionErrorMetric(init_fn, update_fn, summary_fn, reset_fn)


def trajectory_prediction_error(
    params: Params, opt_states: OptState, horizons: Sequence[int] = DEFAULT_HORIZONS
) -> PredictionErrorSummary:
    """Measures the predictions along a recorded trajectory; the offline :func:`prediction_error`.

    Args:
      params: parameters after each update, leaves ``[steps, ...]``, as ``jax.lax.scan`` stacks
        them.
      opt_states: the optimizer states after the same updates, stacked in the same way.
      horizons: how many updates ahead to judge, whole numbers >= 1, all less than ``steps``.

    Returns:
      What :func:`prediction_error` finds if it is updated with the same steps.

    Raises:
      TypeError: a horizon is not a whole number.
      ValueError: ``horizons`` are not valid or not shorter than the trajectory, or ``opt_states``
        hold no prediction of the explicit form.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, xgrad_optax
      >>> _, tx = xgrad_optax.with_weight_prediction(optax.sgd(0.1), s=0)
      >>> def step(carry, _):
      ...     params, opt_state = carry
      ...     updates, opt_state = tx.update(2 * params, opt_state, params)
      ...     carry = (optax.apply_updates(params, updates), opt_state)
      ...     return carry, carry
      >>> params = jnp.array([1.0, -2.0])
      >>> _, recorded = jax.lax.scan(step, (params, tx.init(params)), length=8)
      >>> summary = trajectory_prediction_error(*recorded, horizons=(1, 2))
      >>> [round(float(e), 4) for e in summary.overall.relative_error]  # θ shrinks by 0.8 a step
      [0.25, 0.3889]
    """
    horizons = checked_horizons(horizons)
    params = arrays_of(params)
    steps = min((leaf.shape[0] for leaf in jax.tree.leaves(params)), default=0)
    if steps <= horizons[-1]:
        raise ValueError(
            f"To judge predictions {horizons[-1]} updates ahead a trajectory needs more steps than"
            f" that, but this one has {steps}: record more, or pass smaller `horizons`."
        )
    return _judge(params, opt_states, horizons)


@functools.partial(jax.jit, static_argnames="horizons")
def _judge(
    params: Params, opt_states: OptState, horizons: tuple[int, ...]
) -> PredictionErrorSummary:
    measure = prediction_error(horizons)
    first = jax.tree.map(lambda leaf: leaf[0], (params, opt_states))
    state, _ = jax.lax.scan(
        lambda state, step: (measure.update(state, *step), None),
        measure.init(*first),
        (params, opt_states),
    )
    return measure.summary(state)


def _is_linear(opt_state: OptState) -> bool:
    return all(found.state.rule.predictor.linear for found in measurable_states(opt_state))


def _displacement(base: Params, opt_state: OptState, h: Any) -> Updates:
    """What the states in ``opt_state`` predict for h steps, whatever s they train with."""
    predictions = [
        found._replace(state=predicted_by(found.state, base, h))
        for found in measurable_states(opt_state)
    ]
    # Parameters that no state covers are predicted to stay.
    return merge_into(optax.tree.zeros_like(base), predictions, lambda _, predicted: predicted)


def _agreement_by_leaf(state: PredictionErrorState, params: Params, layout: Layout) -> PyTree:
    """Compares what was said about this moment with ``params``; fields are ``[horizons]``."""
    longest = layout.ahead[-1]

    def compare(column: Any) -> PyTree:
        ahead, offset, period, factor = column
        then = state.count - ahead
        old = _rings.read(state.params, then % longest)
        moved = jax.tree.map(lambda now, before: wide(now) - wide(before), params, old)
        predicted = jax.tree.map(
            lambda p: wide(p) * factor.astype(wide(p).dtype),
            _rings.read(state.displacements, offset + then % period),
        )
        return jax.tree.map(agree, predicted, moved)

    return layout.over_horizons(compare)
