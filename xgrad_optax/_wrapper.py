"""The two forms of weight prediction, and the accessors that go with them.

This is Algorithm 1 of XGrad (arXiv 2305.18240; for AdamW arXiv 2302.00195) for any Optax transform:
predict the parameters s steps ahead, θ̂_{t+s} = θ_t + s·d_t, take the gradient there, and apply the
*unchanged* inner update to θ_t. (``optax.lookahead`` is another method: Zhang et al., 2019.)
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._state import (
    Found,
    Horizon,
    WeightPredictionState,
    XGradState,
    describe_states,
    find_states,
    merge_into,
    unboxed,
    validate_horizon,
)
from xgrad_optax._typing import OptState, Params, Updates
from xgrad_optax.predictors import FromMoments, Predictor, ZeroGradient, last_update


class WeightPrediction(NamedTuple):
    """What :func:`with_weight_prediction` returns; unpacks as ``lookahead_params, tx``.

    Attributes:
      lookahead_params: ``(params, opt_state) -> θ̂``; takes the outermost state of any nesting.
      tx: a transform whose updates are exactly the inner transform's.
    """

    lookahead_params: Callable[[Params, OptState], Params]
    tx: optax.GradientTransformationExtraArgs


# --------------------------------------------------------------------------------------------------
# Explicit form: the train step holds θ
# --------------------------------------------------------------------------------------------------


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
    transform, unchanged. Before the first update :math:`d_0 = 0`. With ``s=0`` the trajectory is
    the inner optimizer's, bit for bit.

    The result composes like any transform. In ``optax.chain``, ``partition``, ``masked`` and so on
    call ``lookahead_params`` (this one or :func:`xgrad_optax.lookahead_params`) with the
    *outermost* state. For gradient accumulation wrap the result in ``optax.MultiSteps``, not the
    other way round.

    Args:
      inner: any Optax transform whose updates are added to the parameters.
      s: the horizon in steps, a real number >= 0 or a schedule of the number of updates. The papers
        find 1 best. ``optax.inject_hyperparams`` may inject it; a change takes effect with the next
        update.
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
    inner = _checked_inner(inner)
    s = validate_horizon(s)
    predictor = _checked_predictor(predictor or last_update()).bind(inner)

    def init_fn(params: Params) -> OptState:
        inner_state = _init_inner(inner, predictor, params)
        memory = predictor.init(params)
        return WeightPredictionState(
            inner_state, memory, _refreshed(predictor, predictor), Horizon.create(s)
        )

    def update_fn(
        updates: Updates,
        state: OptState,
        params: Params | None = None,
        **extra_args: Any,
    ) -> tuple[Updates, OptState]:
        state = adopt(state)
        updates, inner_state = _update_inner(inner, updates, state.inner_state, params, extra_args)
        return updates, WeightPredictionState(
            inner_state,
            predictor.observe(state.memory, updates),
            _refreshed(state.predictor, predictor),
            state.horizon.advance(s),
        )

    def adopt(state: OptState) -> WeightPredictionState:
        """Takes in the inner optimizer's own state, so that any checkpoint of it can go on here."""
        if isinstance(state, WeightPredictionState):
            return state
        if not (isinstance(predictor, FromMoments) and _is_plain(state)) or callable(s):
            raise ValueError(
                "This state was not made by `tx.init`, and this prediction needs more than the"
                " inner optimizer's state: call `tx.init(params)` and fill the `inner_state` field"
                f" of its result. Got {describe_states(state)}."
            )
        predictor.check(state)
        return WeightPredictionState(state, (), _refreshed(predictor, predictor), Horizon.create(s))

    @functools.wraps(lookahead_params)
    def lookahead_fn(params: Params, opt_state: OptState) -> Params:
        if isinstance(predictor, FromMoments) and _is_plain(opt_state):
            opt_state = adopt(unboxed(opt_state))
        return lookahead_params(params, opt_state)

    return WeightPrediction(lookahead_fn, optax.GradientTransformationExtraArgs(init_fn, update_fn))


def lookahead_params(params: Params, opt_state: OptState) -> Params:
    """Returns the predicted parameters θ̂: evaluate the loss and its gradient here.

    Args:
      params: the parameters θ that the train step holds.
      opt_state: the *outermost* optimizer state. The states of :func:`with_weight_prediction` and
        of the named optimizers are found in it by type, in any nesting, ``nnx.Optimizer``'s
        ``opt_state`` included; disjoint groups (``optax.partition``) are merged.

    Returns:
      A tree with the structure, shapes and dtypes of ``params``. Leaves that a mask keeps away from
      the prediction are returned as they are.

    Raises:
      ValueError: ``opt_state`` holds no prediction state, or two that cover the same parameter.

    Examples:
      >>> import jax.numpy as jnp, optax, xgrad_optax
      >>> tx = optax.partition(
      ...     {"fast": xgrad_optax.sgdm(0.1, s=2).tx, "slow": xgrad_optax.adam(1e-3).tx},
      ...     {"w": "fast", "b": "slow"},
      ... )
      >>> params = {"w": jnp.ones(2), "b": jnp.zeros(2)}
      >>> updates, opt_state = tx.update(params, tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> lookahead_params(params, opt_state)["w"]  # 0.9 - 2·0.1
      Array([0.7, 0.7], dtype=float32)
    """
    arrays = unboxed(params)
    displacements = [
        Found(path, _displacement(state, arrays)) for path, state in prediction_states(opt_state)
    ]
    return merge_into(params, displacements, _moved)


def prediction_states(opt_state: OptState) -> list[Found[WeightPredictionState]]:
    """The states of the explicit form in the outermost ``opt_state``; a ValueError without any."""
    opt_state = unboxed(opt_state)
    found = find_states(opt_state, WeightPredictionState)
    if not found:
        raise ValueError(_no_state_for_lookahead(opt_state))
    _refuse_injected_rollout(opt_state)
    return found


def _displacement(state: WeightPredictionState, params: Params) -> Updates:
    """θ̂ - θ according to one state."""
    if state.horizon.is_zero():
        return optax.MaskedNode()  # moves nothing, and computes nothing
    s = state.horizon.value()
    displacement = state.predictor.predict(state.memory, state.inner_state, params, s)
    if not isinstance(s, jax.Array):
        return displacement
    # A prediction that is not finite must not leak into the plain trajectory of s = 0.
    return jax.tree.map(lambda d: jnp.where(s == 0, jnp.zeros_like(d), d), displacement)


def _moved(param: jax.Array, displacement: jax.Array) -> jax.Array:
    """Adds in the wider dtype and rounds once, to the parameter's dtype."""
    dtype = jnp.promote_types(param.dtype, displacement.dtype)
    return (param.astype(dtype) + displacement.astype(dtype)).astype(param.dtype)


# --------------------------------------------------------------------------------------------------
# Drop-in form: the train step holds θ̂
# --------------------------------------------------------------------------------------------------


def xgrad(
    inner: optax.GradientTransformation,
    s: optax.ScalarOrSchedule = 1,
    *,
    predictor: Predictor | None = None,
    base_dtype: jax.typing.DTypeLike | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Weight prediction for an unchanged training loop; the train step holds θ̂.

    The state keeps the base parameters θ. ``update`` runs the inner transform at θ, advances θ, and
    returns :math:`\hat\theta_{t+1+s} - \hat\theta_{t+s}`, so that the loop's parameters are
    always the predicted ones. The trajectory is that of :func:`with_weight_prediction` with the
    same predictor, up to rounding.

    The updates must reach the parameters unmodified: put nothing after ``xgrad`` in a chain (put it
    inside), and evaluate and checkpoint :func:`base_params`. For gradient accumulation wrap the
    result in ``optax.MultiSteps``, not the other way round.

    Args:
      inner: any Optax transform whose updates are added to the parameters.
      s: the horizon in steps, a real number >= 0 or a schedule of the number of updates.
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
    inner = _checked_inner(inner)
    s = validate_horizon(s)
    predictor = _checked_predictor(predictor or last_update()).bind(inner)
    base_dtype = _checked_base_dtype(base_dtype)

    def init_fn(params: Params) -> OptState:
        # A copy even where the dtype stays: parameters and state may both be donated.
        base = jax.tree.map(
            lambda p: jnp.array(p, dtype=_base_dtype_of(p, base_dtype), copy=True), params
        )
        inner_state = _init_inner(inner, predictor, base)
        memory = () if predictor.transient else predictor.init(base)
        return XGradState(base, inner_state, memory, Horizon.create(s))

    def update_fn(
        updates: Updates,
        state: OptState,
        params: Params | None = None,
        **extra_args: Any,
    ) -> tuple[Updates, OptState]:
        if params is None:
            raise ValueError(
                "xgrad(...) moves the parameters from one predicted point to the next, so it needs"
                " them: call `tx.update(grads, opt_state, params)`."
            )
        if not isinstance(state, XGradState):
            raise ValueError(
                "This state was not made by the `init` of this xgrad transform; it is"
                f" {describe_states(state)}. Call `tx.init(params)`, and fill the `inner_state`"
                " field of its result to go on from an existing optimizer state."
            )
        base = state.base_params
        grads = jax.tree.map(lambda g, b: g.astype(_base_dtype_of(g, base_dtype)), updates, base)
        steps, inner_state = _update_inner(inner, grads, state.inner_state, base, extra_args)
        with jax.numpy_dtype_promotion("standard"):
            next_base = optax.apply_updates(base, steps)
        horizon = state.horizon.advance(s)
        seen = predictor.init(base) if predictor.transient else state.memory
        memory = predictor.observe(seen, steps)
        new_state = XGradState(
            next_base, inner_state, () if predictor.transient else memory, horizon
        )
        if horizon.is_zero() and base_dtype is None:
            return steps, new_state  # the inner updates themselves: bit for bit the inner optimizer
        predicted = lookahead_params(
            next_base, WeightPredictionState(inner_state, memory, predictor, horizon)
        )
        # Subtract, then round: so θ̂ is missed by one unit in the last place at most.
        moves = jax.tree.map(
            lambda q, p: (q - p.astype(q.dtype)).astype(p.dtype), predicted, params
        )
        return moves, new_state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def base_params(params: Params, opt_state: OptState) -> Params:
    """Returns the base parameters θ of the drop-in form: evaluate and checkpoint these.

    Args:
      params: the parameters θ̂ that the train step holds.
      opt_state: the *outermost* optimizer state; states of :func:`xgrad` are found in it by type,
        in any nesting, and disjoint groups are merged.

    Returns:
      A tree like ``params``, in the dtype that the base parameters are kept in (``base_dtype``).
      Leaves that a mask keeps away from ``xgrad`` are returned as they are.

    Raises:
      ValueError: ``opt_state`` holds no drop-in state, or two that cover the same parameter.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> tx = optax.chain(optax.clip(1.0), xgrad(optax.sgd(0.1), s=2))
      >>> params = jnp.array(1.0)
      >>> updates, opt_state = tx.update(jnp.array(5.0), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> round(float(params), 6), round(float(base_params(params, opt_state)), 6)
      (0.7, 0.9)
    """
    opt_state = unboxed(opt_state)
    found = find_states(opt_state, XGradState)
    if not found:
        raise ValueError(_no_state_for_base_params(opt_state))
    contributions = [Found(path, state.base_params) for path, state in found]
    return merge_into(params, contributions, lambda _, base: base)


# --------------------------------------------------------------------------------------------------
# Calls into the inner transform
# --------------------------------------------------------------------------------------------------


def _init_inner(
    inner: optax.GradientTransformationExtraArgs, predictor: Predictor, params: Params
) -> OptState:
    with jax.numpy_dtype_promotion("standard"):
        inner_state = inner.init(params)
    if accumulating := find_states(inner_state, _ACCUMULATOR_STATES):
        raise ValueError(
            f"The inner transform accumulates gradients ({type(accumulating[0].state).__name__} in"
            " its state), so most of its updates are zero and say nothing about the next one. Put"
            " prediction inside: optax.MultiSteps(with_weight_prediction(inner, s).tx, k)."
        )
    predictor.check(inner_state)
    return inner_state


_ACCUMULATOR_STATES = (optax.MultiStepsState, optax.ApplyEvery)


def _update_inner(
    inner: optax.GradientTransformationExtraArgs,
    grads: Updates,
    state: OptState,
    params: Params | None,
    extra_args: dict[str, Any],
) -> tuple[Updates, OptState]:
    # Optax relies on standard promotion; under a strict setting only our own code stays strict.
    with jax.numpy_dtype_promotion("standard"):
        return inner.update(grads, state, params, **extra_args)


def _refreshed(stored: Predictor, current: Predictor) -> Predictor:
    """The predictor as the state keeps it after a call that was given ``current``."""
    if type(stored) is not type(current):
        raise ValueError(
            f"The optimizer state was made with another predictor ({type(stored).__name__}, not"
            f" {type(current).__name__}): make a new state with `tx.init(params)` and fill its"
            " `inner_state` field from the old one."
        )
    return type(stored)(stored.hyperparameters.refreshed(current.hyperparameters))


# --------------------------------------------------------------------------------------------------
# Checks
# --------------------------------------------------------------------------------------------------


def _checked_inner(inner: Any) -> optax.GradientTransformationExtraArgs:
    if isinstance(inner, optax.MultiSteps):
        raise TypeError(
            "Prediction goes inside optax.MultiSteps, around the optimizer itself:"
            " optax.MultiSteps(with_weight_prediction(inner, s).tx, every_k_schedule=k)."
        )
    if isinstance(inner, WeightPrediction):
        raise TypeError(
            "The inner transform is a WeightPrediction, which predicts already: use it as it is"
            " (`lookahead_params, tx = ...`), or pass the plain Optax optimizer."
        )
    if not isinstance(inner, optax.GradientTransformation):
        raise TypeError(
            "The inner transform must be an optax.GradientTransformation such as optax.adam(1e-3),"
            f" got {inner!r} of type {type(inner).__name__}."
        )
    return optax.with_extra_args_support(inner)


def _checked_predictor(predictor: Any) -> Predictor:
    if not isinstance(predictor, Predictor):
        raise TypeError(
            "The predictor must come from xgrad_optax.predictors, such as last_update() (called,"
            f" with parentheses) or zero_gradient(), got {predictor!r}."
        )
    return predictor


def _checked_base_dtype(base_dtype: Any) -> Any:
    if base_dtype is None:
        return None
    dtype = jnp.dtype(base_dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"base_dtype must be a floating-point dtype or None, got {dtype}.")
    return dtype


def _base_dtype_of(leaf: jax.Array, base_dtype: Any) -> Any:
    """The dtype in which the base copy of ``leaf`` is kept: only real floats are recast."""
    real = jnp.issubdtype(leaf.dtype, jnp.floating)
    return base_dtype if base_dtype is not None and real else leaf.dtype


def _refuse_injected_rollout(opt_state: OptState) -> None:
    """A rollout inside ``inject_hyperparams`` would use the hyperparameters of ``init`` forever."""
    for path, injected in find_states(opt_state, _INJECT_STATE):
        for _, state in find_states(injected, WeightPredictionState):
            if isinstance(state.predictor, ZeroGradient):
                raise ValueError(
                    f"zero_gradient() inside optax.inject_hyperparams (at opt_state{path}) cannot"
                    " see the injected values. Put inject_hyperparams inside:"
                    " with_weight_prediction(optax.inject_hyperparams(optax.adam)(learning_rate),"
                    " s, predictor=zero_gradient())."
                )


_INJECT_STATE = optax.InjectStatefulHyperparamsState


def _is_plain(opt_state: OptState) -> bool:
    """Whether no state of this library is anywhere in ``opt_state``."""
    return not find_states(opt_state, (WeightPredictionState, XGradState))


def _no_state_for_lookahead(opt_state: OptState) -> str:
    if find_states(opt_state, XGradState):
        return (
            "opt_state belongs to the drop-in form xgrad(...): the parameters of your train step"
            " already are the predicted ones. Take gradients at them as they are, and use"
            " base_params(params, opt_state) for evaluation."
        )
    return _nothing_found(
        opt_state, "lookahead_params", "with_weight_prediction(...) or of a named optimizer"
    )


def _no_state_for_base_params(opt_state: OptState) -> str:
    if find_states(opt_state, WeightPredictionState):
        return (
            "opt_state belongs to the explicit form with_weight_prediction(...): the parameters of"
            " your train step already are the base parameters."
        )
    return _nothing_found(opt_state, "base_params", "xgrad(...)")


def _nothing_found(opt_state: OptState, accessor: str, maker: str) -> str:
    return (
        f"{accessor} found no prediction state in opt_state, which holds"
        f" {describe_states(opt_state)}. Pass the outermost state that the `tx` of {maker} (or a"
        " transform around it) returned from `init` or `update`."
    )
