"""The three forms of weight prediction.

This is Algorithm 1 of XGrad (arXiv 2305.18240; for AdamW arXiv 2302.00195) for any Optax transform:
predict the parameters s steps ahead, θ̂_{t+s} = θ_t + s·d_t, take the gradient there, and apply the
*unchanged* inner update to θ_t. The forms differ in what the train step holds, θ or θ̂.
"""

import functools
from typing import Any

import jax
import optax

from xgrad_optax._checks import (
    check_alike,
    check_drop_in,
    checked_base_dtype,
    checked_in_place,
    checked_params,
)
from xgrad_optax._displacements import (
    NOTHING,
    advanced,
    as_base,
    moves_ahead,
    moves_in_place,
    nothing_displaced,
    taken_off,
)
from xgrad_optax._points import displacement, is_plain, lookahead_params
from xgrad_optax._prediction import Prediction, WeightPrediction
from xgrad_optax._states import InPlaceState, WeightPredictionState, XGradState
from xgrad_optax._trees import unboxed
from xgrad_optax._typing import OptState, Params, ParamsT, Updates
from xgrad_optax.predictors import Predictor


def with_weight_prediction(
    inner: optax.GradientTransformation,
    s: optax.ScalarOrSchedule = 1,
    *,
    predictor: Predictor | None = None,
) -> WeightPrediction:
    r"""Adds weight prediction to an Optax transform; the train step holds θ.

    .. math::
        \hat\theta_{t+s} = \theta_t + s\, d_t, \qquad
        g_{t+1} = \nabla f(\hat\theta_{t+s}), \qquad
        \theta_{t+1} = \theta_t + U(g_{t+1}, S_t, \theta_t)

    where :math:`d_t` is what ``predictor`` expects the next update to be and :math:`U` the inner
    transform, unchanged. Before the first update :math:`d_0 = 0`. With the number
    ``s=0`` the trajectory is the inner optimizer's, bit for bit; with a schedule or an injected s
    that is 0, up to rounding.

    In ``optax.chain``, ``partition``, ``masked`` and so on call ``lookahead_params`` (this one or
    :func:`xgrad_optax.lookahead_params`) with the *outermost* state. It goes last in a chain, and
    inside ``optax.MultiSteps``.

    Args:
      inner: any Optax transform whose updates are added to the parameters.
      s: the horizon in steps, a real number >= 0 or a schedule of the number of updates. The papers
        find 1 best. ``optax.inject_hyperparams`` may inject it; a change takes effect with the next
        update. Linear predictors also take a tree of numbers, of the parameters' structure or a
        prefix of it.
      predictor: what predicts the next update, from :mod:`xgrad_optax.predictors`;
        ``None`` for :func:`~xgrad_optax.predictors.last_update`.

    Returns:
      ``(lookahead_params, tx)``. ``lookahead_params(params, opt_state)`` returns the predicted
      parameters, with the tree structure, shapes and dtypes of ``params``; ``tx`` is a
      :class:`optax.GradientTransformationExtraArgs` that passes extra arguments on to ``inner``.

    Raises:
      TypeError: ``inner`` is no transform, ``predictor`` no predictor, or ``s`` not a real number.
      ValueError: ``s`` is negative, NaN or infinite; at ``tx.init``: the predictor does not fit the
        inner state, or ``inner`` accumulates gradients.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> loss_fn = lambda params, batch: jnp.mean((batch @ params["w"] - 1.0) ** 2)
      >>> params, batch = {"w": jnp.zeros(3)}, jnp.eye(3)
      >>> lookahead_params, tx = with_weight_prediction(optax.adamw(0.1), s=1)
      >>> opt_state = tx.init(params)
      >>> @jax.jit
      ... def train_step(params, opt_state, batch):
      ...     predicted = lookahead_params(params, opt_state)
      ...     loss, grads = jax.value_and_grad(loss_fn)(predicted, batch)
      ...     updates, opt_state = tx.update(grads, opt_state, params)
      ...     return optax.apply_updates(params, updates), opt_state, loss
      >>> for _ in range(50):
      ...     params, opt_state, loss = train_step(params, opt_state, batch)
      >>> bool(loss < 1e-2)
      True

    References:
      XGrad, arXiv 2305.18240, algorithm 1; AdamW with weight prediction, arXiv 2302.00195.
    """
    prediction = Prediction.of(inner, s, predictor)
    predictor = prediction.predictor

    def init_fn(params: Params) -> OptState:
        inner_state = prediction.init_inner(params)
        return after(inner_state, predictor.init(params), prediction.first_count())

    def update_fn(
        updates: Updates, state: OptState, params: Params | None = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        inner_state, memory, _, count = adopt(state)
        updates, inner_state = prediction.update_inner(updates, inner_state, params, extra_args)
        memory = predictor.observe(memory, updates)
        return updates, after(inner_state, memory, prediction.next_count(count))

    def after(inner_state: OptState, memory: Any, count: Any) -> WeightPredictionState:
        rule = prediction.rule(inner_state, count)
        return WeightPredictionState(inner_state, memory, rule, count)

    def adopt(state: OptState) -> WeightPredictionState:
        if not isinstance(state, WeightPredictionState):
            return WeightPredictionState(state, (), prediction.adopted_rule(state), ())
        prediction.check_rule(state.rule)
        return state

    @functools.wraps(lookahead_params)
    def lookahead_fn(params: ParamsT, opt_state: OptState) -> ParamsT:
        if predictor.in_place and is_plain(opt_state):
            opt_state = adopt(unboxed(opt_state))
        return lookahead_params(params, opt_state)

    tx = optax.GradientTransformationExtraArgs(init_fn, update_fn)
    return WeightPrediction.of(prediction, lookahead_fn, tx)


def xgrad(
    inner: optax.GradientTransformation,
    s: optax.ScalarOrSchedule = 1,
    *,
    predictor: Predictor | None = None,
    base_dtype: jax.typing.DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Weight prediction for an unchanged training loop; the train step holds θ̂.

    The state keeps the displacement :math:`\hat\theta - \theta` of the loop's parameters.
    ``update`` takes it off, runs the inner transform at θ, and returns the move to the next
    predicted point, so that the loop's parameters are always the predicted ones. The trajectory is
    that of :func:`with_weight_prediction` with the same predictor, up to rounding.

    Weights that the loop itself puts in (pretrained, clipped, projected, pruned, reset ones) are
    taken as the new θ̂, and θ moves along with them: nothing is undone. For weights that are meant
    as θ see :func:`from_base_params`.

    The updates must reach the parameters unmodified: put nothing after ``xgrad`` in a chain (put it
    inside), evaluate :func:`base_params`, and put it inside ``optax.MultiSteps``.

    Args:
      inner: any Optax transform whose updates are added to the parameters.
      s: the horizon in steps, as :func:`with_weight_prediction` takes it.
      predictor: what predicts the next update, from :mod:`xgrad_optax.predictors`; ``None`` for
        the update just made, which needs no memory in this form.
      base_dtype: floating-point dtype of the base parameters, ``None`` for the parameters' own.
        ``jnp.float32`` keeps a master copy under low-precision parameters, and the inner transform
        then runs in float32.

    Returns:
      A :class:`optax.GradientTransformationExtraArgs`; its state holds one tree like the
      parameters besides the inner state.

    Raises:
      TypeError: ``inner`` is no transform, ``predictor`` no predictor, or ``s`` not a real number.
      ValueError: ``s`` is negative, NaN or infinite; ``base_dtype`` is no floating-point dtype; at
        ``init``: the predictor does not fit, or ``inner`` accumulates gradients; at ``update``:
        ``params`` is missing.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from xgrad_optax import base_params
      >>> tx = xgrad(optax.adamw(0.1), s=1)  # the one changed line
      >>> loss_fn = lambda params: jnp.mean((params - 1.0) ** 2)
      >>> params = jnp.zeros(3)
      >>> opt_state = tx.init(params)
      >>> for _ in range(50):
      ...     loss, grads = jax.value_and_grad(loss_fn)(params)
      ...     updates, opt_state = tx.update(grads, opt_state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> bool(loss_fn(base_params(params, opt_state)) < 1e-2)
      True

    References:
      XGrad, arXiv 2305.18240, algorithm 1, with the two halves of its loop exchanged.
    """
    prediction = Prediction.of(inner, s, predictor)
    base_dtype = checked_base_dtype(base_dtype)
    predictor = prediction.predictor
    # Without prediction and without a copy in another dtype there is nothing to keep.
    undisplaced = prediction.is_off and base_dtype is None

    def init_fn(params: Params) -> OptState:
        base = as_base(params, base_dtype)
        inner_state = prediction.init_inner(base)
        memory = () if predictor.transient else predictor.init(base)
        displaced = NOTHING if undisplaced else nothing_displaced(base)
        return XGradState(displaced, inner_state, memory, prediction.first_count())

    def update_fn(
        updates: Updates, state: OptState, params: Params | None = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        params = checked_params(params, "xgrad(...)")
        check_drop_in(state)
        check_alike(state.displacement, params)
        base = taken_off(state.displacement, params, base_dtype)
        grads = as_base(updates, base_dtype)
        steps, inner_state = prediction.update_inner(grads, state.inner_state, base, extra_args)
        next_base = advanced(base, steps)
        count = prediction.next_count(state.steps)
        seen = predictor.init(base) if predictor.transient else state.memory
        memory = predictor.observe(seen, steps)
        if undisplaced:
            moves, displaced = moves_in_place(steps, state.displacement, NOTHING), NOTHING
        else:
            ahead = prediction.ahead(memory, inner_state, next_base, count)
            moves, displaced = moves_ahead(steps, state.displacement, params, next_base, ahead)
        kept = () if predictor.transient else memory
        return moves, XGradState(displaced, inner_state, kept, count)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def in_place(prediction: WeightPrediction) -> optax.GradientTransformationExtraArgs:
    r"""Weight prediction for an unchanged training loop that moves not one byte more.

    The train step holds θ̂, as with :func:`xgrad`, and the state is the inner optimizer's, leaf for
    leaf: a closed form is a function of the moments, so they say how far ahead the parameters are.

    .. math::
        \theta_t = \hat\theta_t - s_t\, d_t(S_t), \qquad
        \hat\theta_{t+1} = \theta_t + u_{t+1} + s_{t+1}\, d_{t+1}(S_{t+1})

    with :math:`u_{t+1} = U(g, S_t, \theta_t)`, decay and extra arguments included: the trajectory
    of the explicit form, up to rounding. Evaluate :func:`base_params`.

    What :func:`xgrad` says of chains, accumulation and weights that the loop puts in holds here. A
    checkpoint of plain Optax goes on with ``params = from_base_params(params, opt_state)``, and one
    of this form without prediction from ``base_params(params, opt_state)``.

    Args:
      prediction: what a named optimizer returns, or :func:`with_weight_prediction` with a closed
        form for its ``predictor``; learning rate and s may be schedules or injected.

    Returns:
      A transform whose state has the inner state's leaves, and one for a learning rate or s that is
      an array or a schedule.

    Raises:
      TypeError: ``prediction`` is no :class:`WeightPrediction`.
      ValueError: its predictor has a memory or reads the parameters; at ``update``: ``params`` is
        missing.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, xgrad_optax
      >>> from xgrad_optax import base_params
      >>> tx = in_place(xgrad_optax.adamw(0.1, s=1))  # was: optax.adamw(0.1)
      >>> loss_fn = lambda params: jnp.mean((params - 1.0) ** 2)
      >>> params = jnp.zeros(3)
      >>> opt_state = tx.init(params)
      >>> for _ in range(50):
      ...     loss, grads = jax.value_and_grad(loss_fn)(params)
      ...     updates, opt_state = tx.update(grads, opt_state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> bool(loss_fn(base_params(params, opt_state)) < 1e-2)
      True

    References:
      XGrad, arXiv 2305.18240, algorithm 1; that the moments tell the displacement is ours.
    """
    parts = checked_in_place(prediction)

    def init_fn(params: Params) -> OptState:
        inner_state, count = parts.init_inner(params), parts.first_count()
        return InPlaceState(inner_state, parts.rule(inner_state, count), count)

    def update_fn(
        updates: Updates, state: OptState, params: Params | None = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        params = checked_params(params, "in_place(...)")
        state = adopt(state)
        before = displacement(state, params)
        check_alike(before, params)
        base = taken_off(before, params)
        steps, inner_state = parts.update_inner(updates, state.inner_state, base, extra_args)
        count = parts.next_count(state.steps)
        new_state = InPlaceState(inner_state, parts.rule(inner_state, count), count)
        return moves_in_place(steps, before, displacement(new_state, base)), new_state

    def adopt(state: OptState) -> InPlaceState:
        if not isinstance(state, InPlaceState):
            return InPlaceState(state, parts.adopted_rule(state), ())
        parts.check_rule(state.rule)
        return state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
