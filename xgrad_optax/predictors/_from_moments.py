"""What all closed forms do: find the moments, read the direction off them, go along it."""

from typing import Any, ClassVar

import optax

from xgrad_optax._hyperparameters import Hyperparameters, scalar_leaf, scheduled
from xgrad_optax._states import describe_states, find_states
from xgrad_optax._typing import OptState, Params, PyTree, Updates
from xgrad_optax.predictors import _moments
from xgrad_optax.predictors._base import Predictor, scaled, zero_before

_OF_LENGTH = ("momentum", "nesterov")
"""Hyperparameters that say how fast the steps shrink, and nothing of their direction."""


class FromMoments(Predictor):
    """d_t = -γ r_t with the direction r_t read off the moments, see ``_moments.py``.

    Its hyperparameters are the name of the closed form (``family``), ``learning_rate``, and what
    the closed form needs besides the moments.
    """

    linear: ClassVar[bool] = True
    leafless: ClassVar[bool] = True
    in_place: ClassVar[bool] = True

    def check(self, inner_state: OptState) -> None:
        """There must be exactly one state with the moments, and a step count for a schedule."""
        self._moments(inner_state)
        self._learning_rate(inner_state)

    def current(self, inner_state: OptState) -> "FromMoments":
        """With the learning rate of the next step, a scalar float32, in place of a schedule."""
        if not callable(self.hyperparameters["learning_rate"]):
            return self
        rate = scalar_leaf(self._learning_rate(inner_state))
        return type(self)(self.hyperparameters.replace(learning_rate=rate))

    def predict(self, memory: PyTree, inner_state: OptState, params: Params, s: Any) -> Updates:
        """-γ·r_t, as many times as the next s steps are long."""
        del memory, params
        family, moments = self._family, self._moments(inner_state)
        direction = family.direction(moments, **self._of_direction())
        step = scaled(self._learning_rate(inner_state), direction, sign=-1)
        displacement = scaled(self._reach(moments, s), step)
        if not family.counts_steps:
            return displacement  # a momentum buffer starts at zero, so its direction does too
        return zero_before(moments.count > 0, displacement)

    def _reach(self, moments: Any, s: Any) -> Any:
        """How many steps like the next one the next s steps amount to."""
        del moments
        return s

    def _of_direction(self) -> dict[str, Any]:
        others = ("family", "learning_rate", *_OF_LENGTH)
        return {k: v for k, v in self.hyperparameters.as_dict().items() if k not in others}

    @property
    def _family(self) -> _moments.Family:
        return _moments.FAMILIES[self.hyperparameters["family"]]

    def _moments(self, inner_state: OptState) -> Any:
        return self._the_only(inner_state, self._family.state_type)

    def _learning_rate(self, inner_state: OptState) -> Any:
        """γ of the next step: Optax schedules are read at the number of steps done."""
        learning_rate = self.hyperparameters["learning_rate"]
        if not callable(learning_rate):
            return learning_rate
        if self._family.counts_steps:
            return scheduled(learning_rate, self._moments(inner_state).count)
        count = self._the_only(inner_state, optax.ScaleByScheduleState).count
        return scheduled(learning_rate, count)

    def _the_only(self, inner_state: OptState, state_type: type) -> Any:
        found = find_states(inner_state, state_type)
        if len(found) != 1:
            raise ValueError(
                f"The predictor for {self._family.name} does not fit the inner transform: it"
                f" needs exactly one {state_type.__name__} in the inner state, found {len(found)};"
                f" the state holds {describe_states(inner_state)}. Use last_update() or"
                " zero_gradient(), which fit every transform."
            )
        return found[0].state


class Damped(FromMoments):
    """d_t at first, and shorter with each step, as it is without further gradients.

    What the lengths depend on is among its hyperparameters too, see ``_damping.py``.
    """

    linear: ClassVar[bool] = False

    def _reach(self, moments: Any, s: Any) -> Any:
        return self._family.reach(s, moments, self.hyperparameters)


def from_moments(
    family: _moments.Family,
    learning_rate: optax.ScalarOrSchedule,
    *,
    damped: bool = False,
    **hyperparameters: Any,
) -> Predictor:
    """The closed form of a family, or its damped form.

    Raises:
      TypeError: ``damped`` is not a bool.
    """
    if not isinstance(damped, bool):
        raise TypeError(
            f"`damped` must be True or False, got {damped!r} of type {type(damped).__name__}: how"
            " fast the steps shrink follows from the decay rates of the inner optimizer."
        )
    if not damped:
        hyperparameters = {k: v for k, v in hyperparameters.items() if k not in _OF_LENGTH}
    form = Damped if damped else FromMoments
    return form(Hyperparameters(family=family.name, learning_rate=learning_rate, **hyperparameters))
