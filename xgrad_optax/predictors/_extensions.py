"""Closed forms by the papers' principle, for optimizers that the papers do not have."""

import jax
import optax

from xgrad_optax.predictors import _moments
from xgrad_optax.predictors._base import Predictor
from xgrad_optax.predictors._from_moments import from_moments


def yogi(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-3,
    *,
    damped: bool = False,
) -> Predictor:
    r"""Yogi: :math:`d_t = -\gamma \hat m_t / (\sqrt{\hat v_t} + \varepsilon)`.

    Damped as :func:`adam`, but Yogi's second moment stays as it is without a gradient:

    .. math::
        \hat\theta_{t+s} - \theta_t = d_t \sum_{k=1}^{s} \beta_1^k
        \frac{1 - \beta_1^t}{1 - \beta_1^{t+k}}
        \sqrt{\frac{1 - \beta_2^{t+k}}{1 - \beta_2^t}}

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      damped: whether each step is shorter than the one before.

    Returns:
      A predictor without memory (our extension by XGrad's principle; Yogi is Zaheer et al., 2018).

    Raises:
      TypeError: ``damped`` is not a bool.
    """
    return from_moments(
        _moments.YOGI,
        learning_rate,
        damped=damped,
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=0.0,
        nesterov=False,
    )


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
    return from_moments(
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
    return from_moments(_moments.LION, learning_rate)


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
    return from_moments(
        _moments.ADABOUND,
        learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        final_scale=final_scale,
        gamma=gamma,
    )
