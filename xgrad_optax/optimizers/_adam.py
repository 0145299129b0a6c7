"""Adam and its nearest relations."""

import optax

from xgrad_optax import predictors
from xgrad_optax._forms import WeightPrediction, with_weight_prediction
from xgrad_optax.optimizers._arguments import (
    ArrayLike,
    DTypeLike,
    ScalarOrSchedule,
    WeightDecayMask,
)


def adam(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    nesterov: bool = False,
    damped: bool = False,
) -> WeightPrediction:
    r"""Adam with weight prediction.

    .. math::
        \hat\theta_{t+s} = \theta_t - s\gamma\,
        \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \varepsilon}

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the first moment; ``None`` for the parameters' own.
      nesterov: whether the updates are NAdam's.
      damped: whether the steps shrink as they do without further gradients. See
        :func:`xgrad_optax.predictors.adam`.

    Returns:
      ``(lookahead_params, tx)``.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> lookahead_params, tx = adam(0.1, s=2)
      >>> params = jnp.array(1.0)
      >>> updates, opt_state = tx.update(jnp.array(5.0), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> round(float(lookahead_params(params, opt_state)), 4)  # three steps of γ·sign(g)
      0.7

    References:
      XGrad, arXiv 2305.18240, algorithm 1 and table 1.
    """
    tx = optax.adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    predictor = predictors.adam(
        learning_rate, b1, b2, eps, eps_root, damped=damped, nesterov=nesterov
    )
    return with_weight_prediction(tx, s, predictor=predictor)


def nadam(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    damped: bool = False,
) -> WeightPrediction:
    """NAdam with weight prediction: :func:`adam` with ``nesterov=True``.

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the first moment; ``None`` for the parameters' own.
      damped: whether the steps shrink as they do without further gradients. See
        :func:`xgrad_optax.predictors.adam`.

    Returns:
      ``(lookahead_params, tx)``.

    References:
      Dozat, Incorporating Nesterov Momentum into Adam, 2016; the prediction is our extension.
    """
    return adam(
        learning_rate,
        s=s,
        b1=b1,
        b2=b2,
        eps=eps,
        eps_root=eps_root,
        mu_dtype=mu_dtype,
        nesterov=True,
        damped=damped,
    )


def adamw(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: DTypeLike | None = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: WeightDecayMask = None,
    nesterov: bool = False,
    damped: bool = False,
) -> WeightPrediction:
    r"""AdamW with weight prediction.

    .. math::
        \hat\theta_{t+s} = \theta_t - s\gamma\,
        \frac{m_t / (1 - \beta_1^t)}{\sqrt{v_t / (1 - \beta_2^t)} + \varepsilon}

    The decoupled decay of the next steps is *not* predicted: arXiv 2302.00195 drops it as
    negligible. ``with_weight_prediction(optax.adamw(...), predictor=zero_gradient())`` predicts it.

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added inside the root.
      mu_dtype: dtype of the first moment; ``None`` for the parameters' own.
      weight_decay: strength of the decoupled decay.
      mask: which parameters decay, as in :func:`optax.adamw`.
      nesterov: whether the updates are NAdamW's.
      damped: whether the steps shrink as they do without further gradients. See
        :func:`xgrad_optax.predictors.adam`.

    Returns:
      ``(lookahead_params, tx)``.

    Examples:
      >>> import jax.numpy as jnp, optax
      >>> lookahead_params, tx = adamw(0.1, s=1, weight_decay=0.5)
      >>> params = jnp.array(1.0)
      >>> updates, opt_state = tx.update(jnp.array(5.0), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)
      >>> round(float(params), 4), round(float(lookahead_params(params, opt_state)), 4)
      (0.85, 0.75)

    References:
      Weight prediction boosts the convergence of AdamW, arXiv 2302.00195, eq. 7 and algorithm 1.
    """
    tx = optax.adamw(
        learning_rate, b1, b2, eps, eps_root, mu_dtype, weight_decay, mask, nesterov=nesterov
    )
    predictor = predictors.adam(
        learning_rate, b1, b2, eps, eps_root, damped=damped, nesterov=nesterov
    )
    return with_weight_prediction(tx, s, predictor=predictor)


def radam(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    threshold: ArrayLike = 5.0,
    nesterov: bool = False,
) -> WeightPrediction:
    r"""Rectified Adam with weight prediction: Adam's prediction times the rectification.

    .. math::
        \hat\theta_{t+s} = \theta_t - s\gamma\,
        \frac{r_t\, \hat m_t}{\sqrt{\hat v_t} + \varepsilon}
        \ \text{ if } \rho_t \ge \text{threshold}, \quad
        \theta_t - s\gamma\,\hat m_t \ \text{ otherwise}

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added inside the root.
      threshold: the ρ_t from which the variance is considered tractable.
      nesterov: whether the updates use Nesterov's momentum.

    Returns:
      ``(lookahead_params, tx)``.

    References:
      RAdam, arXiv 1908.03265, algorithm 2; the prediction is our extension by XGrad's principle.
    """
    tx = optax.radam(learning_rate, b1, b2, eps, eps_root, threshold, nesterov=nesterov)
    return with_weight_prediction(
        tx, s, predictor=predictors.radam(learning_rate, b1, b2, eps, eps_root, threshold)
    )


def yogi(
    learning_rate: ScalarOrSchedule,
    *,
    s: ScalarOrSchedule = 1,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-3,
    damped: bool = False,
) -> WeightPrediction:
    r"""Yogi with weight prediction: Adam's prediction from Yogi's moments.

    .. math::
        \hat\theta_{t+s} = \theta_t - s\gamma\, \hat m_t / (\sqrt{\hat v_t} + \varepsilon)

    Args:
      learning_rate: γ, a number or a schedule; the prediction uses the next step's.
      s: the horizon in steps, >= 0.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      damped: whether the steps shrink as they do without further gradients. See
        :func:`xgrad_optax.predictors.yogi`.

    Returns:
      ``(lookahead_params, tx)``.

    References:
      Zaheer et al., Adaptive Methods for Nonconvex Optimization, 2018, algorithm 2; the prediction
      is our extension by XGrad's principle.
    """
    tx = optax.yogi(learning_rate, b1, b2, eps)
    predictor = predictors.yogi(learning_rate, b1, b2, eps, damped=damped)
    return with_weight_prediction(tx, s, predictor=predictor)
