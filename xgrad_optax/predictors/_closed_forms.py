"""The closed forms of the papers' optimizers, read off the moments that these keep anyway."""

from typing import Any

import jax
import optax

from xgrad_optax.predictors import _moments
from xgrad_optax.predictors._base import Predictor
from xgrad_optax.predictors._from_moments import from_moments
from xgrad_optax.predictors._last_update import last_update


def sgdm(
    learning_rate: optax.ScalarOrSchedule,
    momentum: jax.typing.ArrayLike | None = None,
    *,
    damped: bool = False,
    nesterov: bool = False,
) -> Predictor:
    r"""SGD with momentum, :math:`d_t = -\gamma v_t` (XGrad, arXiv 2305.18240, table 1).

    Damped, s steps are as long as they are if no further gradients come:

    .. math::
        \hat\theta_{t+s} - \theta_t = -\gamma v_t \sum_{k=1}^{s} \mu^k

    for whole s, linear in between. That is :func:`zero_gradient` without a rollout, at the next
    step's learning rate and without decay; for s = 1 it is Nesterov's method.

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.
      momentum: the μ that the inner optimizer was given; only the damped form needs it.
      damped: whether each step is shorter than the one before.
      nesterov: what the inner optimizer was given; the damped form then has μᵏ⁺¹ for μᵏ.

    Returns:
      A predictor without memory, for ``optax.sgd(learning_rate, momentum)``.

    Raises:
      TypeError: ``damped`` is not a bool.
      ValueError: the damped form was given no momentum.

    Examples:
      >>> import jax.numpy as jnp, optax, xgrad_optax
      >>> lookahead_params, tx = xgrad_optax.with_weight_prediction(
      ...     optax.sgd(0.5, momentum=0.5), s=2, predictor=sgdm(0.5, momentum=0.5, damped=True)
      ... )
      >>> params = jnp.array(1.0)
      >>> updates, state = tx.update(jnp.array(0.2), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)  # 0.9; then -0.05 and -0.025 of momentum
      >>> round(float(lookahead_params(params, state)), 6)
      0.825
    """
    return from_moments(
        _moments.SGDM,
        learning_rate,
        damped=damped,
        momentum=_known(momentum, "sgdm(learning_rate, momentum=0.9", damped),
        nesterov=nesterov,
    )


def rmsprop(
    momentum: jax.typing.ArrayLike | None = None, *, damped: bool = False, nesterov: bool = False
) -> Predictor:
    r"""RMSprop: :math:`d_t = u_t`, read off the momentum buffer if there is one.

    Optax's RMSprop has the learning rate inside its momentum buffer, so none is needed here. (The
    papers' form has it outside; the two differ only where the learning rate changes.) Damped, the
    buffer shrinks as in :func:`sgdm`, and s steps are :func:`zero_gradient`'s.

    Args:
      momentum: the momentum that the inner optimizer was given.
      damped: whether each step is shorter than the one before.
      nesterov: what the inner optimizer was given; only the damped form depends on it.

    Returns:
      Without momentum :func:`last_update`, which remembers one tree like the parameters: the
      update cannot be recovered from v_t alone. With momentum a predictor without memory.

    Raises:
      TypeError: ``damped`` is not a bool.
      ValueError: the damped form was given no momentum.
    """
    momentum = _known(momentum, "rmsprop(momentum=0.9", damped)
    if momentum is None:
        return last_update()
    return from_moments(
        _moments.RMSPROP_MOMENTUM, 1.0, damped=damped, momentum=momentum, nesterov=nesterov
    )


def _known(momentum: Any, call: str, damped: bool) -> Any:
    if damped and momentum is None:
        raise ValueError(
            "Damped steps shrink by the momentum, got momentum = None: give the inner optimizer one"
            f" and name it here, {call}, damped=True), or take damped=False."
        )
    return momentum


def adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    *,
    damped: bool = False,
    nesterov: bool = False,
) -> Predictor:
    r"""Adam, AdamW, NAdam: :math:`d_t = -\gamma \hat m_t / (\sqrt{\hat v_t} + \varepsilon)`.

    Decoupled weight decay is not predicted; arXiv 2302.00195 (eq. 7) drops it as negligible.

    Damped, s steps are as long as they are if no further gradients come. Then
    :math:`m_{t+k} = \beta_1^k m_t` and :math:`v_{t+k} = \beta_2^k v_t`, so

    .. math::
        \hat\theta_{t+s} - \theta_t = d_t \sum_{k=1}^{s} \beta_1^k
        \frac{1 - \beta_1^t}{1 - \beta_1^{t+k}}
        \sqrt{\frac{1 - \beta_2^{t+k}}{\beta_2^k (1 - \beta_2^t)}}

    for whole s, linear in between. That is :func:`zero_gradient` without a rollout, at the next
    step's learning rate and without decay. Exact where ε is 0; else the length of step t + k has a
    relative error below :math:`\varepsilon / \sqrt{\hat v_{t+k}}`, since ε keeps the weight that it
    has in :math:`d_t` (with ``eps_root`` below :math:`\varepsilon_{root} / 2 \hat v_{t+k}`).

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added inside the root.
      damped: whether each step is shorter than the one before.
      nesterov: whether the inner optimizer is NAdam, whose first moment is one step further on;
        only the damped form depends on it.

    Returns:
      A predictor without memory.

    Raises:
      TypeError: ``damped`` is not a bool.
      ValueError: the damped form was given b2 = 0.

    Examples:
      >>> import jax.numpy as jnp, optax, xgrad_optax
      >>> def ahead(predictor, s=5):
      ...     lookahead_params, tx = xgrad_optax.with_weight_prediction(
      ...         optax.adamw(0.1), s, predictor=predictor
      ...     )
      ...     params = jnp.array(1.0)
      ...     updates, state = tx.update(jnp.array(3.0), tx.init(params), params)
      ...     return round(float(lookahead_params(params, state)), 4)
      >>> ahead(adam(0.1))  # five steps of γ·sign(g)
      0.5
      >>> ahead(adam(0.1, damped=True)), ahead(xgrad_optax.zero_gradient())  # which decays as well
      (0.772, 0.772)

    References:
      XGrad, arXiv 2305.18240, table 1; the damped form is this library's.
    """
    if damped and isinstance(b2, int | float) and b2 == 0:
        raise ValueError(
            "The damped form of Adam needs b2 > 0, got b2 = 0: without a gradient the second moment"
            " would be zero at once, and the next step divided by eps alone. Take damped=False."
        )
    return from_moments(
        _moments.ADAM,
        learning_rate,
        damped=damped,
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=eps_root,
        nesterov=nesterov,
    )


def adabelief(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-16,
    *,
    damped: bool = False,
    nesterov: bool = False,
) -> Predictor:
    r"""AdaBelief: :math:`d_t = -\gamma \hat m_t / (\sqrt{\hat s_t} + \varepsilon)`.

    Damped as :func:`yogi`, with :math:`s_t` held. Without a gradient it would lose
    :math:`(1 - \beta_2) s_t` and gain :math:`(1 - \beta_2) m_t^2` a step, so this is near what
    :func:`zero_gradient` predicts, not the same.

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment of g - m.
      eps: added outside the root; what Optax adds inside is in the state already.
      damped: whether each step is shorter than the one before.
      nesterov: what the inner optimizer was given; only the damped form depends on it.

    Returns:
      A predictor without memory (XGrad, arXiv 2305.18240, table 1; the damped form is ours).

    Raises:
      TypeError: ``damped`` is not a bool.
    """
    return from_moments(
        _moments.ADABELIEF,
        learning_rate,
        damped=damped,
        b1=b1,
        b2=b2,
        eps=eps,
        nesterov=nesterov,
    )


def adam3(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    *,
    damped: bool = False,
) -> Predictor:
    r"""AdaM³: :math:`d_t = -\gamma \hat m_t / \sqrt{\hat v_t}` (XGrad, arXiv 2305.18240, table 1).

    Damped as :func:`yogi`, with :math:`v_t` held; see :func:`adabelief`.

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment of m.
      damped: whether each step is shorter than the one before.

    Returns:
      A predictor without memory.

    Raises:
      TypeError: ``damped`` is not a bool.
    """
    return from_moments(_moments.ADAM3, learning_rate, damped=damped, b1=b1, b2=b2, nesterov=False)
