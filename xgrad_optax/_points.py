"""Where to take gradients and where to evaluate, for train loops that know neither form."""

from xgrad_optax._state import WeightPredictionState, XGradState, find_states, unboxed
from xgrad_optax._typing import OptState, Params
from xgrad_optax._wrapper import base_params, lookahead_params


def predicted_point(params: Params, opt_state: OptState) -> Params:
    """θ̂: in the explicit form computed, in the drop-in form what the train step holds.

    Where groups of parameters have different forms, this is right for each group.

    Raises:
      ValueError: ``opt_state`` holds no state of either form, or two that cover one parameter.
    """
    explicit, drop_in = _forms(opt_state)
    return params if drop_in and not explicit else lookahead_params(params, opt_state)


def base_point(params: Params, opt_state: OptState) -> Params:
    """θ: in the drop-in form taken from the state, in the explicit form what the step holds.

    Raises:
      ValueError: ``opt_state`` holds no state of either form, or two that cover one parameter.
    """
    explicit, drop_in = _forms(opt_state)
    return params if explicit and not drop_in else base_params(params, opt_state)


def _forms(opt_state: OptState) -> tuple[bool, bool]:
    """Whether there are states of the explicit and of the drop-in form."""
    opt_state = unboxed(opt_state)
    explicit = find_states(opt_state, WeightPredictionState)
    drop_in = find_states(opt_state, XGradState)
    return bool(explicit), bool(drop_in)
