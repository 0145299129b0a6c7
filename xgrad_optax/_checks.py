"""Refusals of bad input: each names the value, the rule and the repair."""

import math
import numbers
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax

from xgrad_optax._states import PREDICTION_STATES, XGradState, describe_states, find_states
from xgrad_optax._trees import first_difference, is_none, is_tree
from xgrad_optax._typing import OptState, PyTree


def checked_horizon(s: Any) -> Any:
    """Returns ``s`` as a float, a schedule or a scalar array; refuses anything else.

    Raises:
      TypeError: ``s`` is a bool, a string, a complex number, or no number at all.
      ValueError: ``s`` is negative, NaN, infinite, or an array that is no scalar.
    """
    expected = "the horizon `s` must be a real number >= 0 or an Optax schedule"
    if callable(s):
        return s
    if isinstance(s, bool | np.bool_) or not isinstance(
        s, numbers.Real | np.number | np.ndarray | jax.Array
    ):
        raise TypeError(f"{expected}, got s = {s!r} of type {type(s).__name__}.")
    if isinstance(s, np.ndarray | jax.Array):
        if s.ndim or not (
            jnp.issubdtype(s.dtype, jnp.floating) or jnp.issubdtype(s.dtype, jnp.integer)
        ):
            raise ValueError(f"{expected}, got an array of shape {s.shape} and dtype {s.dtype}.")
        if isinstance(s, jax.core.Tracer):
            return s  # its value is not known before the program runs
    number = float(np.asarray(s))
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{expected}, got s = {number}.")
    return s if isinstance(s, np.ndarray | jax.Array) else number


def checked_horizons(s: Any) -> Any:
    """Returns ``s`` checked, where it is a tree each of its leaves, as numbers; refuses others.

    Raises:
      TypeError: as :func:`checked_horizon`; for a tree by path, and also for schedules and arrays.
      ValueError: as :func:`checked_horizon`, or a tree without leaves.
    """
    if not is_tree(s):
        return checked_horizon(s)

    def checked(path: Any, leaf: Any) -> float:
        where = f"s at {jax.tree_util.keystr(path)}"
        if callable(leaf) or isinstance(leaf, np.ndarray | jax.Array):
            raise TypeError(f"{where} must be a number: a tree of horizons is fixed, got {leaf!r}.")
        try:
            return checked_horizon(leaf)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{where}: {error}") from None

    horizons = jax.tree_util.tree_map_with_path(checked, s, is_leaf=is_none)
    if not jax.tree.leaves(horizons):
        raise ValueError(f"The horizon `s` must be a number or a tree of numbers, got {s!r}.")
    return horizons


def checked_whole_number(value: Any, name: str) -> int:
    """Returns ``value`` as an int; a TypeError or ValueError names what is not a number >= 1."""
    expected = f"{name} must be a whole number >= 1"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{expected}, got {value!r} of type {type(value).__name__}.")
    if value < 1:
        raise ValueError(f"{expected}, got {value}.")
    return int(value)


def checked_delays(delay: Any) -> Any:
    """Returns ``delay``, a number of updates or a tree of them, as ints.

    Raises:
      TypeError: a bool, a fraction, an array, or no number; by path.
      ValueError: a negative number, or a tree without any; by path.
    """

    def checked(path: Any, value: Any) -> int:
        where = f" at {jax.tree_util.keystr(path)}" if path else ""
        expected = f"delay{where} must be a whole number of updates >= 0"
        if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
            raise TypeError(f"{expected}, got {value!r} of type {type(value).__name__}.")
        if value < 0:
            raise ValueError(f"{expected}, got {value}.")
        return int(value)

    delays = jax.tree_util.tree_map_with_path(checked, delay, is_leaf=is_none)
    if not jax.tree.leaves(delays):
        raise ValueError(f"delay must be a whole number >= 0 or a tree of them, got {delay!r}.")
    return delays


def checked_delayable(prediction: Any, in_flight: bool) -> None:
    """Refuses what gradients cannot be given late to."""
    predicts = hasattr(prediction, "lookahead_params")
    if not (predicts or isinstance(prediction, optax.GradientTransformation)):
        raise TypeError(
            "delayed takes what a named optimizer or with_weight_prediction(...) returns, such as"
            f" delayed(xgrad_optax.adamw(1e-3, s=3), 2), or a transform, got {prediction!r} of type"
            f" {type(prediction).__name__}."
        )
    if in_flight and not getattr(prediction, "prediction", None):
        raise TypeError(
            "in_flight=True rolls out the optimizer of a prediction: give delayed a named optimizer"
            " or with_weight_prediction(inner, s). The drop-in and in-place forms predict without"
            " looking at the gradients in flight."
        )


def checked_inner(inner: Any) -> optax.GradientTransformationExtraArgs:
    """Returns the inner transform, with support for extra arguments."""
    if isinstance(inner, optax.MultiSteps):
        raise TypeError(
            "Prediction goes inside optax.MultiSteps, around the optimizer itself:"
            " optax.MultiSteps(with_weight_prediction(inner, s).tx, every_k_schedule=k)."
        )
    if hasattr(inner, "lookahead_params"):
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


def checked_base_dtype(base_dtype: Any) -> Any:
    """Returns the dtype of the base parameters, or None."""
    if base_dtype is None:
        return None
    dtype = jnp.dtype(base_dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"base_dtype must be a floating-point dtype or None, got {dtype}.")
    return dtype


def check_inner_state(inner_state: OptState, s: Any) -> None:
    """Refuses inner transforms whose updates a prediction can make nothing of."""
    if accumulating := find_states(inner_state, _ACCUMULATOR_STATES):
        raise ValueError(
            f"The inner transform accumulates gradients ({type(accumulating[0].state).__name__} in"
            " its state), so most of its updates are zero and say nothing about the next one. Put"
            " prediction inside: optax.MultiSteps(with_weight_prediction(inner, s).tx, k)."
        )
    searching = find_states(inner_state, _LINE_SEARCH_STATES)
    if searching and not (isinstance(s, float) and s == 0):
        raise ValueError(
            f"The inner transform searches along a line ({type(searching[0].state).__name__} in its"
            " state): it compares loss values at the base parameters with a gradient that was taken"
            " at the predicted ones, and diverges. Use it without prediction, or with s=0."
        )


_ACCUMULATOR_STATES = (optax.MultiStepsState, optax.ApplyEvery)
_LINE_SEARCH_STATES = (
    optax.ScaleByBacktrackingLinesearchState,
    optax.ScaleByZoomLinesearchState,
)


def check_alike(expected: PyTree, got: PyTree) -> None:
    """Refuses parameters that are not like what the state holds: the first difference, by path."""
    if difference := first_difference(expected, got):
        raise ValueError(
            f"The parameters do not fit the optimizer state: {difference}. Pass those that"
            " `tx.init` was given, or make a new state with `tx.init(params)`."
        )


def checked_params(params: Any, form: str) -> Any:
    """Returns the parameters that a form needs which moves them ahead."""
    if params is None:
        raise ValueError(
            f"{form} moves the parameters from one predicted point to the next, so it needs them:"
            " call `tx.update(grads, opt_state, params)`."
        )
    return params


def refuse_another_form(state: OptState) -> None:
    """Refuses a state of this library where the inner optimizer's own could be taken over."""
    if find_states(state, PREDICTION_STATES):
        raise ValueError(_foreign(state))


def check_drop_in(state: OptState) -> None:
    """Refuses any state but the drop-in form's, which no other says enough to make."""
    if not isinstance(state, XGradState):
        raise ValueError(_foreign(state))


def _foreign(state: OptState) -> str:
    return (
        f"This state was not made by the `init` of this transform; it is {describe_states(state)}."
        " Call `tx.init(params)`, and fill the `inner_state` field of its result to go on from an"
        " existing optimizer state."
    )


def checked_in_place(prediction: Any) -> Any:
    """Returns the parts of a prediction that can move the parameters in place."""
    if not hasattr(prediction, "prediction"):
        raise TypeError(
            "in_place takes what a named optimizer or with_weight_prediction(...) returns, such as"
            f" in_place(xgrad_optax.adamw(1e-3)), got {prediction!r} of type"
            f" {type(prediction).__name__}. Any other transform: xgrad(tx, s)."
        )
    parts = prediction.prediction
    if parts is None:
        raise ValueError(
            "in_place cannot be made of delays by leaf: move it inside,"
            " delayed(in_place(prediction), delay)."
        )
    if not parts.predictor.in_place:
        raise ValueError(
            f"{type(parts.predictor).__name__} needs a memory or the parameters themselves, but"
            " in_place has only the inner optimizer's state to predict from: give it a closed form"
            " such as predictors.adam(learning_rate), or use xgrad(inner, s, predictor=...)."
        )
    return parts
