r"""The quadratic model: at which learning rates prediction is stable, and which s is best.

On :math:`f(\theta) = \tfrac12 h \theta^2` momentum with weight prediction is a linear recurrence of
second order, :math:`\theta_{t+1} = T \theta_t - D \theta_{t-1}`, one for each eigenvalue h of a
Hessian. Everything here is a closed form of its coefficients; ``docs/stability.md`` derives them.

The prediction is :math:`\hat\theta = \theta - s \gamma v`, that of the closed forms and, without
weight decay, of ``last_update()`` too. For ``zero_gradient()`` pass :func:`effective_horizon` as s.
Nesterov's method is s = μ.

With ``delay=τ`` each gradient is applied τ updates after it was taken, which makes the recurrence
one of order τ + 2; ``docs/late-gradients.md`` derives what follows. A delay is a Python number and
static under ``jit``; with ``delay=0`` everything is as without.

All functions take numbers or arrays that broadcast, and work under ``jit``, ``vmap`` and ``grad``.
"""

from xgrad_optax.stability._best_horizon import best_horizon
from xgrad_optax.stability._horizons import effective_horizon, widest_horizon
from xgrad_optax.stability._limits import max_learning_rate
from xgrad_optax.stability._radius import companion_matrix, spectral_radius
from xgrad_optax.stability._stages import stages_spectral_radius
from xgrad_optax.stability._variance import stationary_variance

__all__ = [
    "best_horizon",
    "companion_matrix",
    "effective_horizon",
    "max_learning_rate",
    "spectral_radius",
    "stages_spectral_radius",
    "stationary_variance",
    "widest_horizon",
]
