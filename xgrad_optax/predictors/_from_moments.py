"""What all closed forms do: find the moments, read the direction off them, go along it."""

import abc
from typing import Any, ClassVar

import optax

from xgrad_optax._hyperparameters import Hyperparameters, scalar_leaf, scheduled
from xgrad_optax._states import describe_states, find_states
from xgrad_optax._typing import OptState, Params, PyTree, Updates
from xgrad_optax.predictors import _moments
from xgrad_optax.predictors._base import Predictor, scaled, zero_before

_OF_LENGTH = ("momentum", "nesterov")
"""Hyperparameters that say how fast the steps shrink, and nothing of their direction."""


class ClosedForm(Predictor):
    r"""The base of predictors that read the next update off the optimizer's moments.

    .. math::
        \hat\theta_{t+s} - \theta_t = -s\,\gamma_{t+1}\, r_t(S_t)

    A subclass names the state that keeps the moments (``state_type``) and says in which direction
    :math:`r_t` they point (:meth:`direction`). The rest is done here: the state is found by its
    type in any nesting of the inner transform, the learning rate is that of the next step, nothing
    is predicted before the first update, and whatever a mask leaves out stays where it is. It has
    no memory and does not read the parameters, so it works in all three forms.

    Its ``hyperparameters`` have a ``learning_rate``, which may be a schedule, and what
    :meth:`direction` needs.

    Attributes:
      state_type: the type of the Optax state with the moments; the inner state must hold one.
      counts_steps: whether that state has a ``count`` of the updates made, from which schedules are
        read. ``False`` only for moments that start at zero and whose direction then is zero, such
        as a momentum buffer; a schedule is then read at the count of Optax's own
        ``scale_by_learning_rate``.

    Raises:
      ValueError: at ``tx.init``: the inner state does not hold exactly one ``state_type``, or that
        has no ``count``.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, xgrad_optax
      >>> class SignOfMomentum(ClosedForm):
      ...     state_type = optax.ScaleByLionState
      ...     def direction(self, moments):
      ...         return jax.tree.map(jnp.sign, moments.mu)
      >>> predictor = SignOfMomentum(xgrad_optax.predictors.Hyperparameters(learning_rate=0.1))
      >>> lookahead_params, tx = xgrad_optax.with_weight_prediction(
      ...     optax.lion(0.1), s=2, predictor=predictor
      ... )
      >>> params = jnp.array(1.0)
      >>> updates, state = tx.update(jnp.array(3.0), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)  # about 0.9
      >>> round(float(params - lookahead_params(params, state)), 6)
      0.2
    """

    linear: ClassVar[bool] = True
    leafless: ClassVar[bool] = True
    in_place: ClassVar[bool] = True
    starts_at_zero: ClassVar[bool] = True
    state_type: type
    counts_steps: bool = True

    @abc.abstractmethod
    def direction(self, moments: Any) -> Updates:
        """Returns r_t, a tree like the updates, so that the predicted next update is -γ r_t.

        Args:
          moments: the inner optimizer's ``state_type`` after t updates.
        """

    def check(self, inner_state: OptState) -> None:
        """There must be exactly one state with the moments, and a step count for a schedule."""
        moments = self._moments(inner_state)
        if self.counts_steps and callable(getattr(moments, "count", len)):  # tuples have a method
            raise ValueError(
                f"{self._name} reads {self.state_type.__name__}, which has no `count` of the"
                " updates made: predict from one that has, or set counts_steps = False if the"
                " direction of its first, all-zero moments is zero."
            )
        self._learning_rate(inner_state)

    def current(self, inner_state: OptState) -> Predictor:
        """With the learning rate of the next step, a scalar float32, in place of a schedule."""
        if not callable(self.hyperparameters["learning_rate"]):
            return self
        rate = scalar_leaf(self._learning_rate(inner_state))
        return type(self)(self.hyperparameters.replace(learning_rate=rate))

    def predict(self, memory: PyTree, inner_state: OptState, params: Params, s: Any) -> Updates:
        """-γ·r_t, as many times as the next s steps are long."""
        del memory, params
        moments = self._moments(inner_state)
        step = scaled(self._learning_rate(inner_state), self.direction(moments), sign=-1)
        displacement = scaled(self._reach(moments, s), step)
        if not self.counts_steps:
            return displacement  # a momentum buffer starts at zero, so its direction does too
        return zero_before(moments.count > 0, displacement)

    def _reach(self, moments: Any, s: Any) -> Any:
        """How many steps like the next one the next s steps amount to."""
        del moments
        return s

    @property
    def _name(self) -> str:
        """How messages call it."""
        return type(self).__name__

    def _moments(self, inner_state: OptState) -> Any:
        return self._the_only(inner_state, self.state_type)

    def _learning_rate(self, inner_state: OptState) -> Any:
        """γ of the next step: Optax schedules are read at the number of steps done."""
        learning_rate = self.hyperparameters["learning_rate"]
        if not callable(learning_rate):
            return learning_rate
        if self.counts_steps:
            return scheduled(learning_rate, self._moments(inner_state).count)
        count = self._the_only(inner_state, optax.ScaleByScheduleState).count
        return scheduled(learning_rate, count)

    def _the_only(self, inner_state: OptState, state_type: type) -> Any:
        found = find_states(inner_state, state_type)
        if len(found) != 1:
            raise ValueError(
                f"The predictor for {self._name} does not fit the inner transform: it"
                f" needs exactly one {state_type.__name__} in the inner state, found {len(found)};"
                f" the state holds {describe_states(inner_state)}. Use last_update() or"
                " zero_gradient(), which fit every transform."
            )
        return found[0].state


class FromMoments(ClosedForm):
    """The closed form of a family, see ``_moments.py``, which is named by ``family``."""

    @property
    def _family(self) -> _moments.Family:
        return _moments.FAMILIES[self.hyperparameters["family"]]

    @property
    def _name(self) -> str:
        return self._family.name

    @property
    def state_type(self) -> type:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The family's."""
        return self._family.state_type

    @property
    def counts_steps(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The family's."""
        return self._family.counts_steps

    def direction(self, moments: Any) -> Updates:
        """The family's, with the hyperparameters that it asks for."""
        others = ("family", "learning_rate", *_OF_LENGTH)
        values = self.hyperparameters.as_dict()
        return self._family.direction(
            moments, **{name: value for name, value in values.items() if name not in others}
        )


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
