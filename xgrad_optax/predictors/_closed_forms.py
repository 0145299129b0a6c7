"""The closed forms: the next update, read off the moments that the optimizer keeps anyway."""

from typing import Any, ClassVar

import jax
import optax

from xgrad_optax._hyperparameters import Hyperparameters, scalar_leaf, scheduled
from xgrad_optax._states import describe_states, find_states
from xgrad_optax._typing import OptState, Params, PyTree, Updates
from xgrad_optax.predictors import _moments
from xgrad_optax.predictors._base import Predictor, scaled, zero_before
from xgrad_optax.predictors._last_update import last_update


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
        return FromMoments(self.hyperparameters.replace(learning_rate=rate))

    def predict(self, memory: PyTree, inner_state: OptState, params: Params, s: Any) -> Updates:
        """-s·γ·r_t."""
        del memory, params
        family, moments = self._family, self._moments(inner_state)
        extra = self.hyperparameters.as_dict()
        del extra["family"], extra["learning_rate"]
        direction = family.direction(moments, **extra)
        displacement = scaled(s, scaled(self._learning_rate(inner_state), direction, sign=-1))
        if not family.counts_steps:
            return displacement  # a momentum buffer starts at zero, so its direction does too
        return zero_before(moments.count > 0, displacement)

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


def _from_moments(
    family: _moments.Family, learning_rate: optax.ScalarOrSchedule, **hyperparameters: Any
) -> Predictor:
    return FromMoments(
        Hyperparameters(family=family.name, learning_rate=learning_rate, **hyperparameters)
    )


def sgdm(learning_rate: optax.ScalarOrSchedule) -> Predictor:
    r"""SGD with momentum, :math:`d_t = -\gamma v_t` (XGrad, arXiv 2305.18240, table 1).

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.

    Returns:
      A predictor without memory, for ``optax.sgd(learning_rate, momentum)``.

    Examples:
      >>> import jax.numpy as jnp, optax, xgrad_optax
      >>> lookahead_params, tx = xgrad_optax.with_weight_prediction(
      ...     optax.sgd(0.5, momentum=0.9), s=1, predictor=sgdm(0.5)
      ... )
      >>> params = jnp.array(1.0)
      >>> updates, state = tx.update(jnp.array(0.2), tx.init(params), params)
      >>> round(float(lookahead_params(params + updates, state)), 6)
      0.8
    """
    return _from_moments(_moments.SGDM, learning_rate)


def rmsprop(momentum: jax.typing.ArrayLike | None = None) -> Predictor:
    r"""RMSprop: :math:`d_t = u_t`, read off the momentum buffer if there is one.

    Optax's RMSprop has the learning rate inside its momentum buffer, so none is needed here. (The
    papers' form has it outside; the two differ only where the learning rate changes.)

    Args:
      momentum: the momentum that the inner optimizer was given.

    Returns:
      Without momentum :func:`last_update`, which remembers one tree like the parameters: the
      update cannot be recovered from v_t alone. With momentum a predictor without memory.
    """
    if momentum is None:
        return last_update()
    return _from_moments(_moments.RMSPROP_MOMENTUM, 1.0)


def adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
) -> Predictor:
    r"""Adam, AdamW, NAdam, Yogi: :math:`d_t = -\gamma \hat m_t / (\sqrt{\hat v_t} + \varepsilon)`.

    Decoupled weight decay is not predicted; arXiv 2302.00195 (eq. 7) drops it as negligible.

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added inside the root.

    Returns:
      A predictor without memory.

    Examples:
      >>> import jax.numpy as jnp, optax, xgrad_optax
      >>> lookahead_params, tx = xgrad_optax.with_weight_prediction(
      ...     optax.adamw(0.1), s=1, predictor=adam(0.1)
      ... )
      >>> params = jnp.array(1.0)
      >>> updates, state = tx.update(jnp.array(3.0), tx.init(params), params)
      >>> round(float(lookahead_params(params, state)), 4)  # m̂/√v̂ = sign(g) after one step
      0.9
    """
    return _from_moments(_moments.ADAM, learning_rate, b1=b1, b2=b2, eps=eps, eps_root=eps_root)


def adabelief(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-16,
) -> Predictor:
    r"""AdaBelief: :math:`d_t = -\gamma \hat m_t / (\sqrt{\hat s_t} + \varepsilon)`.

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment of g - m.
      eps: added outside the root; what Optax adds inside is in the state already.

    Returns:
      A predictor without memory (XGrad, arXiv 2305.18240, table 1).
    """
    return _from_moments(_moments.ADABELIEF, learning_rate, b1=b1, b2=b2, eps=eps)


def adam3(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
) -> Predictor:
    r"""AdaM³: :math:`d_t = -\gamma \hat m_t / \sqrt{\hat v_t}` (XGrad, arXiv 2305.18240, table 1).

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment of m.

    Returns:
      A predictor without memory.
    """
    return _from_moments(_moments.ADAM3, learning_rate, b1=b1, b2=b2)


def radam(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    threshold: jax.typing.ArrayLike = 5.0,
) -> Predictor:
    r"""RAdam: :math:`d_t = -\gamma r_t \hat m_t / (\sqrt{\hat v_t} + \varepsilon)`.

    While ρ_t is below the threshold :math:`d_t = -\gamma \hat m_t`, as in the optimizer itself.

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added inside the root.
      threshold: the ρ_t from which the adaptive form is used.

    Returns:
      A predictor without memory (our extension by XGrad's principle; RAdam is arXiv 1908.03265).
    """
    return _from_moments(
        _moments.RADAM,
        learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=eps_root,
        threshold=threshold,
    )


def lion(learning_rate: optax.ScalarOrSchedule) -> Predictor:
    r"""Lion: :math:`d_t = -\gamma\, \mathrm{sign}(m_t)`; its weight decay is not predicted.

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.

    Returns:
      A predictor without memory (our extension by XGrad's principle; Lion is arXiv 2302.06675).
    """
    return _from_moments(_moments.LION, learning_rate)


def adabound(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    final_scale: jax.typing.ArrayLike = 100.0,
    gamma: jax.typing.ArrayLike = 1e-3,
) -> Predictor:
    r"""AdaBound: :math:`d_t = -\gamma\, \eta_t \odot m_t` with the bounds of step t.

    Args:
      learning_rate: the learning rate that the inner optimizer was given.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added to the root of the second moment.
      final_scale: the final step size as a multiple of the learning rate.
      gamma: how fast the bounds converge.

    Returns:
      A predictor without memory (our extension by XGrad's principle; AdaBound is arXiv 1902.09843).
    """
    return _from_moments(
        _moments.ADABOUND,
        learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        final_scale=final_scale,
        gamma=gamma,
    )
