"""NumPy float64 transcriptions of the papers' algorithms, for reading next to the papers.

They know nothing of JAX, of Optax or of this library. Names follow the papers:

    θ_t    parameters after t updates          u_t   the update, θ_t = θ_{t-1} + u_t
    θ_hat  predicted parameters θ̂_{t+s}        d_t   the predicted next update
    g_t    gradient, taken at θ_hat            γ     learning rate (AdaBound's paper: α)

XGrad is arXiv 2305.18240, its AdamW special case arXiv 2302.00195.
"""

from tests.reference.algorithm_1 import (
    Trajectory,
    algorithm_1,
    closed_form,
    damped,
    last_update,
    zero_gradient,
)
from tests.reference.gradient_prediction import TanhTrunk
from tests.reference.late import in_flight, late_algorithm, without_queue
from tests.reference.network import TanhNetwork
from tests.reference.optimizers import (
    SGDM,
    AdaBelief,
    AdaBound,
    Adam,
    AdaM3,
    AdamW,
    Lion,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    RMSpropMomentum,
    Yogi,
)

__all__ = [
    "SGDM",
    "AdaBelief",
    "AdaBound",
    "AdaM3",
    "Adam",
    "AdamW",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "RMSpropMomentum",
    "TanhNetwork",
    "TanhTrunk",
    "Trajectory",
    "Yogi",
    "algorithm_1",
    "closed_form",
    "damped",
    "in_flight",
    "last_update",
    "late_algorithm",
    "without_queue",
    "zero_gradient",
]
