"""From what the train step holds to the predicted point θ̂ and to the base point θ."""

from typing import Any

import jax
import optax

from xgrad_optax._nesting import (
    followed_scale,
    merge_into,
    names_of,
    states_behind,
    warn_of_what_is_behind,
)
from xgrad_optax._prediction import predicted_by
from xgrad_optax._rounding import moved, moved_back
from xgrad_optax._states import (
    PREDICTION_STATES,
    Found,
    InPlaceState,
    WeightPredictionState,
    XGradState,
    describe_states,
    find_states,
)
from xgrad_optax._trees import arrays_of, is_real, unboxed
from xgrad_optax._typing import OptState, Params, ParamsT, Updates
from xgrad_optax.predictors._base import scaled, without_leaks
from xgrad_optax.predictors._zero_gradient import ZeroGradient

AHEAD = (XGradState, InPlaceState)  # the forms whose train step holds θ̂


def lookahead_params(params: ParamsT, opt_state: OptState) -> ParamsT:
    """Returns the predicted parameters θ̂: evaluate the loss and its gradient here.

    Args:
      params: the parameters θ that the train step holds.
      opt_state: the *outermost* optimizer state. The states of :func:`with_weight_prediction` and
        of the named optimizers are found in it by type, in any nesting, ``nnx.Optimizer``'s
        ``opt_state`` included; disjoint groups (``optax.partition``) are merged.

    Returns:
      A tree with the structure, shapes and dtypes of ``params``. Leaves that a mask keeps away from
      the prediction are returned as they are. If transforms come behind the prediction in a chain
      whose states do not tell what they do to its updates, nothing is predicted and a warning says
      where they belong; ``optax.contrib.reduce_on_plateau`` is followed.

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
    arrays = arrays_of(params)
    predicted = [
        found._replace(state=_followed(found, arrays)) for found in explicit_states(opt_state)
    ]
    return merge_into(params, predicted, moved)


def base_params(params: ParamsT, opt_state: OptState) -> ParamsT:
    """Returns the base parameters θ of a form whose train step holds θ̂: evaluate these.

    Args:
      params: the parameters θ̂ that the train step holds.
      opt_state: the *outermost* optimizer state; states of :func:`xgrad` and :func:`in_place` are
        found in it by type, in any nesting, and disjoint groups are merged.

    Returns:
      A tree like ``params``, in the dtype that the base parameters are kept in (``base_dtype``).
      Leaves that a mask keeps away from the prediction are returned as they are.

    Raises:
      ValueError: ``opt_state`` holds no state of these forms, or two that cover the same parameter,
        or transforms that come behind one in a chain, where they change moves that must reach the
        parameters as they are.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from xgrad_optax import xgrad
      >>> tx = optax.chain(optax.clip(1.0), xgrad(optax.sgd(0.1), s=2))
      >>> params = jnp.array(1.0)
      >>> updates, opt_state = tx.update(jnp.array(5.0), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> round(float(params), 6), round(float(base_params(params, opt_state)), 6)
      (0.7, 0.9)
    """
    drop_in, in_place = _displacements_ahead(opt_state, "base_params")
    params = merge_into(params, in_place, lambda p, d: moved_back(p, d, p.dtype))
    return merge_into(params, drop_in, lambda p, d: moved_back(p, d, _kept(p, d)))


def from_base_params(base: ParamsT, opt_state: OptState) -> ParamsT:
    """Returns the parameters that a train step must hold for :func:`base_params` to be ``base``.

    For weights that come from elsewhere and are meant as the *base* weights: a checkpoint of the
    plain optimizer, weights pruned to exact zeros, an average of base weights. A train step that
    simply puts other weights into what it holds needs no call: it goes on from them, and the base
    parameters are moved along, ``s·d`` behind.

    Args:
      base: the base parameters θ, in the dtype of what the train step holds.
      opt_state: the outermost optimizer state of the drop-in or in-place form.

    Returns:
      A tree like ``base``.

    Raises:
      ValueError: as :func:`base_params`.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> from xgrad_optax import xgrad
      >>> tx = xgrad(optax.sgd(0.1), s=2)
      >>> params = jnp.array([1.0, 2.0])
      >>> updates, opt_state = tx.update(jnp.ones(2), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> pruned = base_params(params, opt_state).at[0].set(0.0)
      >>> params = from_base_params(pruned, opt_state)
      >>> [round(float(p), 6) for p in params]
      [-0.2, 1.7]
      >>> float(base_params(params, opt_state)[0])
      0.0
    """
    drop_in, in_place = _displacements_ahead(opt_state, "from_base_params")
    return merge_into(base, [*drop_in, *in_place], moved)


def predicted_point(params: Params, opt_state: OptState) -> Params:
    """θ̂: in the explicit form computed, in the others what the train step holds.

    Where groups of parameters have different forms, this is right for each group.

    Raises:
      ValueError: ``opt_state`` holds no prediction state, or two that cover one parameter.
    """
    explicit, ahead = _forms(opt_state)
    return params if ahead and not explicit else lookahead_params(params, opt_state)


def base_point(params: Params, opt_state: OptState) -> Params:
    """θ: in the explicit form what the train step holds, in the others computed.

    Raises:
      ValueError: ``opt_state`` holds no prediction state, or two that cover one parameter.
    """
    explicit, ahead = _forms(opt_state)
    return params if explicit and not ahead else base_params(params, opt_state)


def _forms(opt_state: OptState) -> tuple[bool, bool]:
    """Whether there are states whose train step holds θ, and states whose step holds θ̂."""
    opt_state = unboxed(opt_state)
    explicit = find_states(opt_state, WeightPredictionState)
    return bool(explicit), bool(find_states(opt_state, AHEAD))


def measurable_states(opt_state: OptState) -> list[Found[Any]]:
    """The states that keep their predictor, for :mod:`xgrad_optax.diagnostics`."""
    opt_state = unboxed(opt_state)
    found = find_states(opt_state, (WeightPredictionState, InPlaceState))
    if not found and find_states(opt_state, XGradState):
        raise ValueError(
            "opt_state belongs to the drop-in form xgrad(...), which does not keep its predictor."
            " Measure the explicit form with_weight_prediction(inner, s, predictor=...): with the"
            " same predictor both follow the same trajectory."
        )
    return found or list(explicit_states(opt_state))


# --------------------------------------------------------------------------------------------------
# θ̂ - θ
# --------------------------------------------------------------------------------------------------


def explicit_states(opt_state: OptState) -> list[Found[WeightPredictionState]]:
    """The states of the explicit form in the outermost ``opt_state``; a ValueError without any."""
    opt_state = unboxed(opt_state)
    found = find_states(opt_state, WeightPredictionState)
    if not found:
        raise ValueError(_nothing_to_look_ahead_from(opt_state))
    _refuse_injected_rollout(opt_state)
    return found


def displacement(state: WeightPredictionState | InPlaceState, params: Params) -> Updates:
    """θ̂ - θ according to one state."""
    rule = state.rule
    if isinstance(rule.s, float) and rule.s == 0:
        return optax.MaskedNode()  # moves nothing, and computes nothing
    return without_leaks(predicted_by(state, params, rule.s), rule.s)


def _followed(found: Found[WeightPredictionState], params: Params) -> Updates:
    """θ̂ - θ according to one state and to what comes behind it."""
    scale = followed_scale(found)
    if scale is None:
        warn_of_what_is_behind(found)
        return optax.MaskedNode()
    predicted = displacement(found.state, params)
    return predicted if isinstance(scale, float) else scaled(scale, predicted)


def _displacements_ahead(
    opt_state: OptState, accessor: str
) -> tuple[list[Found[Updates]], list[Found[Updates]]]:
    """θ̂ - θ according to each state of the drop-in and of the in-place form."""
    opt_state = unboxed(opt_state)
    found = find_states(opt_state, AHEAD)
    if not found:
        raise ValueError(_no_base(opt_state, accessor))
    for state in found:
        _refuse_what_is_behind(state)
    drop_in = find_states(opt_state, XGradState)
    in_place = find_states(opt_state, InPlaceState)
    return (
        [found._replace(state=found.state.displacement) for found in drop_in],
        [found._replace(state=displacement(found.state, ())) for found in in_place],
    )


def _kept(param: jax.Array, displacement: jax.Array) -> Any:
    """The dtype in which the drop-in form keeps the base of a parameter."""
    return displacement.dtype if is_real(displacement) else param.dtype


# --------------------------------------------------------------------------------------------------
# Refusals
# --------------------------------------------------------------------------------------------------


def _refuse_what_is_behind(found: Found[Any]) -> None:
    if behind := states_behind(found):
        raise ValueError(
            f"The transform of opt_state{found.path} moves the parameters from one predicted point"
            f" to the next, but behind it in its chain come others ({names_of(behind)}) that may"
            " change these moves; the base parameters are then wrong. Put them inside:"
            " xgrad(optax.chain(inner, behind), s), or before it."
        )


def _refuse_injected_rollout(opt_state: OptState) -> None:
    """A rollout inside ``inject_hyperparams`` would use the hyperparameters of ``init`` forever."""
    for path, injected, _ in find_states(opt_state, optax.InjectStatefulHyperparamsState):
        for _, state, _ in find_states(injected, WeightPredictionState):
            if isinstance(state.rule.predictor, ZeroGradient):
                raise ValueError(
                    f"zero_gradient() inside optax.inject_hyperparams (at opt_state{path}) cannot"
                    " see the injected values. Put inject_hyperparams inside:"
                    " with_weight_prediction(optax.inject_hyperparams(optax.adam)(learning_rate),"
                    " s, predictor=zero_gradient())."
                )


def is_plain(opt_state: OptState) -> bool:
    """Whether no state of this library is anywhere in ``opt_state``."""
    return not find_states(opt_state, PREDICTION_STATES)


def _nothing_to_look_ahead_from(opt_state: OptState) -> str:
    if find_states(opt_state, AHEAD):
        return (
            "opt_state belongs to the drop-in form xgrad(...) or to in_place(...): the parameters"
            " of your train step already are the predicted ones. Take gradients at them as they"
            " are, and use base_params(params, opt_state) for evaluation."
        )
    return _nothing_found(
        opt_state, "lookahead_params", "with_weight_prediction(...) or of a named optimizer"
    )


def _no_base(opt_state: OptState, accessor: str) -> str:
    if find_states(opt_state, WeightPredictionState):
        return (
            "opt_state belongs to the explicit form with_weight_prediction(...): the parameters of"
            " your train step already are the base parameters."
        )
    return _nothing_found(opt_state, accessor, "xgrad(...) or in_place(...)")


def _nothing_found(opt_state: OptState, accessor: str, maker: str) -> str:
    return (
        f"{accessor} found no prediction state in opt_state, which holds"
        f" {describe_states(opt_state)}. Pass the outermost state that the `tx` of {maker} (or a"
        " transform around it) returned from `init` or `update`."
    )
