"""An inner transform, a predictor of its updates, and a horizon: what all forms are made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._checks import (
    check_inner_state,
    checked_horizons,
    checked_inner,
    refuse_another_form,
)
from xgrad_optax._displacements import NOTHING
from xgrad_optax._hyperparameters import Rule, is_array, scalar_leaf, scheduled
from xgrad_optax._states import InPlaceState, WeightPredictionState, describe_states
from xgrad_optax._trees import is_tree
from xgrad_optax._typing import Lookahead, OptState, Params, PyTree, Updates
from xgrad_optax.predictors import Predictor, last_update
from xgrad_optax.predictors._base import without_leaks, zero_before
from xgrad_optax.predictors._by_leaf import by_leaf


class Prediction(NamedTuple):
    """What :func:`xgrad_optax.with_weight_prediction` was given, checked.

    Attributes:
      inner: the inner transform.
      predictor: what predicts its updates.
      s: the horizon, a number, a scalar array, or a schedule of the number of updates. A tree of
        horizons is the predictor's, and s is 1.
    """

    inner: optax.GradientTransformationExtraArgs
    predictor: Predictor
    s: Any

    @classmethod
    def of(cls, inner: Any, s: Any, predictor: Any) -> "Prediction":
        """Checks the arguments; without a predictor it is that of the last update."""
        inner = checked_inner(inner)
        horizons = checked_horizons(s)
        predictor = last_update() if predictor is None else predictor
        if not isinstance(predictor, Predictor):
            raise TypeError(
                "The predictor must come from xgrad_optax.predictors, such as last_update()"
                f" (called, with parentheses) or zero_gradient(), got {predictor!r}."
            )
        if is_tree(horizons):
            return cls(inner, by_leaf(predictor.bind(inner), horizons), 1.0)
        return cls(inner, predictor.bind(inner), horizons)

    @property
    def is_off(self) -> bool:
        """Whether s is known to be 0 before anything is computed."""
        return isinstance(self.s, float) and self.s == 0

    # Optax relies on standard promotion; under a strict setting only our own code stays strict.

    def init_inner(self, params: Params) -> OptState:
        """The inner transform's first state."""
        with jax.numpy_dtype_promotion("standard"):
            inner_state = self.inner.init(params)
        check_inner_state(inner_state, self.s)
        self.predictor.check(inner_state)
        return inner_state

    def update_inner(
        self, grads: Updates, state: OptState, params: Params | None, extra_args: dict[str, Any]
    ) -> tuple[Updates, OptState]:
        """The inner transform's update, unchanged."""
        with jax.numpy_dtype_promotion("standard"):
            return self.inner.update(grads, state, params, **extra_args)

    # What the state keeps for the next prediction.

    @property
    def _counts(self) -> bool:
        """Whether the number of updates must be known."""
        predictor = self.predictor
        return callable(self.s) or not (predictor.leafless and predictor.starts_at_zero)

    def rule(self, inner_state: OptState, count: Any) -> Rule:
        """The predictor and the horizon that the next prediction will use."""
        s = scheduled(self.s, count) if callable(self.s) else self.s
        number = self.predictor.leafless and not (callable(self.s) or is_array(s))
        return Rule(self.predictor.current(inner_state), s if number else scalar_leaf(s))

    def first_count(self) -> Any:
        """The count of updates in a fresh state; ``()`` where nothing may need it."""
        return jnp.zeros([], jnp.int32) if self._counts else ()

    def next_count(self, count: Any) -> Any:
        """The count after one more update, also in a state of a transform that needed none."""
        if isinstance(first := self.first_count(), tuple):
            return first
        return optax.safe_increment(first if isinstance(count, tuple) else count)

    def ahead(self, memory: PyTree, inner_state: OptState, params: Params, count: Any) -> Updates:
        """θ̂ - θ at this moment, for a horizon that is a number if it is known as one."""
        if self.is_off:
            return NOTHING
        s = scalar_leaf(scheduled(self.s, count)) if callable(self.s) else self.s
        return without_leaks(self.predictor.predict(memory, inner_state, params, s), s)

    def check_rule(self, rule: Rule) -> None:
        """Refuses a state that another predictor has made."""
        # Who reads the inner state alone needs nothing that another predictor should have kept.
        free = rule.predictor.in_place and self.predictor.in_place
        if not (free or isinstance(rule.predictor, type(self.predictor))):
            raise ValueError(
                "The optimizer state was made with another predictor"
                f" ({type(rule.predictor).__name__}, not {type(self.predictor).__name__}): make a"
                " new state with `tx.init(params)` and fill its `inner_state` field from the old"
                " one."
            )

    def adopted_rule(self, state: OptState) -> Rule:
        """The rule for the inner optimizer's own state, of which any checkpoint can go on here."""
        refuse_another_form(state)
        if not self.predictor.in_place or self._counts:
            raise ValueError(
                "This state was not made by `tx.init`, and this prediction needs more than the"
                " inner optimizer's state: call `tx.init(params)` and fill the `inner_state` field"
                f" of its result. Got {describe_states(state)}."
            )
        self.predictor.check(state)
        return self.rule(state, ())


def predicted_by(state: WeightPredictionState | InPlaceState, params: Params, s: Any) -> Updates:
    """How far the parameters will have moved in s steps, by what a state keeps; 0 at the start."""
    predictor = state.rule.predictor
    memory = state.memory if isinstance(state, WeightPredictionState) else ()
    predicted = predictor.predict(memory, state.inner_state, params, s)
    return predicted if predictor.starts_at_zero else zero_before(state.steps > 0, predicted)


class _Pair(NamedTuple):
    lookahead_params: Lookahead
    tx: optax.GradientTransformationExtraArgs


class WeightPrediction(_Pair):
    """What :func:`with_weight_prediction` returns; unpacks as ``lookahead_params, tx``.

    It may stand where a transform is expected, as in ``nnx.Optimizer(model, adamw(1e-3), ...)`` or
    ``optax.chain``: it has the ``init`` and ``update`` of its ``tx``. (Optax's own combinators pass
    extra arguments to Optax's own classes only: give them ``.tx`` where the inner transform takes
    some.)

    Attributes:
      lookahead_params: ``(params, opt_state) -> θ̂``; takes the outermost state of any nesting.
      tx: a transform whose updates are exactly the inner transform's.
      prediction: inner transform, predictor and horizon, of which :func:`in_place` makes another
        form; ``None`` where groups of parameters have their own.
    """

    prediction: Prediction | None

    @classmethod
    def of(
        cls,
        prediction: Prediction | None,
        lookahead_params: Lookahead,
        tx: optax.GradientTransformationExtraArgs,
    ) -> "WeightPrediction":
        """The pair, and what it was made of."""
        pair = cls(lookahead_params, tx)
        pair.prediction = prediction
        return pair

    @property
    def init(self) -> Callable[[Params], OptState]:
        """``tx.init``."""
        return self.tx.init

    @property
    def update(self) -> Callable[..., tuple[Updates, OptState]]:
        """``tx.update``."""
        return self.tx.update
