"""One class per family: the update u_t, and what XGrad expects the next one to be, d_t.

The inner optimizer of XGrad is unchanged *Optax*. Where Optax differs from an optimizer's paper a
comment says so, and Optax is followed.
"""

import abc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

Vector = np.ndarray


class Optimizer(abc.ABC):
    """An optimizer whose moments start at zero (a number: it fits θ of any length).

    Attributes:
      t: number of updates so far.
      u: the last update u_t; zero before the first.
      moments: names of the attributes that are moments.
      margin: how far the run stayed from the jumps of a sign or a threshold, where rounding errors
        would decide; infinite where there are none.
    """

    moments: ClassVar[tuple[str, ...]]
    t = 0
    u: Vector | float = 0.0
    margin = np.inf

    def keep_margin(self, distances: Vector | float) -> None:
        """Notes distances from jumps."""
        self.margin = min(self.margin, np.min(np.abs(distances)))

    def step(self, g: Vector, θ: Vector, γ: float) -> Vector:
        """θ_t = θ_{t-1} + u_t."""
        self.t += 1
        self.u = self.update(g, θ, γ)
        return θ + self.u

    @abc.abstractmethod
    def update(self, g: Vector, θ: Vector, γ: float) -> Vector:
        """Updates the moments with g_t and returns u_t; ``self.t`` is t already."""

    @abc.abstractmethod
    def next_update(self, γ: float) -> Vector:
        """d_t, after t >= 1 updates; ``γ`` is the learning rate of update t + 1."""

    def weight(self, k: int) -> float:
        """w_k: d_{t+k} = w_k d_t if g_{t+1} = … = g_{t+k} = 0, with the same γ and without λ."""
        raise NotImplementedError

    def debiased(self, moment: Vector, β: float) -> Vector:
        """m̂_t = m_t / (1 - βᵗ)."""
        return moment / (1 - β**self.t)

    def kept(self, β: float, k: int) -> float:
        """m̂_{t+k} / m̂_t where m_{t+k} = βᵏ m_t."""
        return β**k * (1 - β**self.t) / (1 - β ** (self.t + k))

    def held(self, β: float, k: int) -> float:
        """m̂_{t+k} / m̂_t where m_{t+k} = m_t."""
        return (1 - β**self.t) / (1 - β ** (self.t + k))


@dataclass
class SGDM(Optimizer):
    """SGD with momentum (XGrad, table 1).

    v_t = μ v_{t-1} + g_t + λ θ_{t-1},   u_t = -γ v_t,   d_t = -γ v_t

    λ is coupled (L2) weight decay: taken at θ, where the inner optimizer stands, not at θ̂.
    """

    μ: float = 0.9
    λ: float = 0.0

    moments = ("v",)
    v = 0.0

    def update(self, g, θ, γ):
        self.v = self.μ * self.v + g + self.λ * θ
        return -γ * self.v

    def next_update(self, γ):
        return -γ * self.v

    def weight(self, k):
        return self.μ**k


@dataclass
class RMSprop(Optimizer):
    """RMSprop (XGrad, table 1).

    v_t = ρ v_{t-1} + (1 - ρ) g_t²,   u_t = -γ g_t / √(v_t + ε),   d_t = u_t

    Optax adds ε inside the root unless told otherwise; elsewhere it is √v_t + ε. There is no
    momentum to read the update off, so it is expected to recur, at the *old* learning rate.
    """

    ρ: float = 0.9
    ε: float = 1e-8
    ε_in_sqrt: bool = True

    moments = ("v",)
    v = 0.0

    def scaled_gradient(self, g):
        self.v = self.ρ * self.v + (1 - self.ρ) * g**2
        return g / (np.sqrt(self.v + self.ε) if self.ε_in_sqrt else np.sqrt(self.v) + self.ε)

    def update(self, g, θ, γ):
        return -γ * self.scaled_gradient(g)

    def next_update(self, γ):
        return self.u


@dataclass
class RMSpropMomentum(RMSprop):
    """RMSprop with momentum.

    v_t as above,   b_t = μ b_{t-1} - γ g_t / √(v_t + ε),   u_t = b_t,   d_t = b_t

    Optax puts the learning rate before the buffer; elsewhere it is b_t = μ b_{t-1} + g_t/√(v_t + ε)
    and u_t = -γ b_t. The two differ where γ changes.
    """

    μ: float = 0.9

    moments = ("v", "b")
    b = 0.0

    def update(self, g, θ, γ):
        self.b = self.μ * self.b - γ * self.scaled_gradient(g)
        return self.b

    def next_update(self, γ):
        return self.b

    def weight(self, k):
        return self.μ**k


@dataclass
class Adam(Optimizer):
    """Adam (XGrad, table 1).

    m_t = β₁ m_{t-1} + (1 - β₁) g_t,   v_t = β₂ v_{t-1} + (1 - β₂) g_t²
    u_t = -γ m̂_t / (√v̂_t + ε),   d_t = -γ m̂_t / (√v̂_t + ε)

    ε_root, inside the root, is Optax's own; zero gives the paper's Adam.
    """

    β1: float = 0.9
    β2: float = 0.999
    ε: float = 1e-8
    ε_root: float = 0.0

    moments = ("m", "v")
    m = 0.0
    v = 0.0

    def update_moments(self, g):
        self.m = self.β1 * self.m + (1 - self.β1) * g
        self.v = self.β2 * self.v + (1 - self.β2) * g**2

    def denominator(self):
        return np.sqrt(self.debiased(self.v, self.β2) + self.ε_root) + self.ε

    def update(self, g, θ, γ):
        self.update_moments(g)
        return -γ * self.debiased(self.m, self.β1) / self.denominator()

    def next_update(self, γ):
        return -γ * self.debiased(self.m, self.β1) / self.denominator()

    def weight(self, k):
        # As if ε were none: it keeps the weight beside √v̂_t that it has in d_t.
        return self.kept(self.β1, k) / np.sqrt(self.kept(self.β2, k))


@dataclass
class AdamW(Adam):
    """AdamW (arXiv 2302.00195, eq. 7): u_t = Adam's - γ λ θ_{t-1},   d_t = Adam's.

    Neither paper predicts the decay: it is small beside the rest.
    """

    λ: float = 1e-4

    def update(self, g, θ, γ):
        return super().update(g, θ, γ) - γ * self.λ * θ


@dataclass
class NAdam(Adam):
    """NAdam (Dozat, 2016) without its extra factor β₂ on v̂, as in Optax.

    m̄_t = β₁ m_t / (1 - β₁ᵗ⁺¹) + (1 - β₁) g_t / (1 - β₁ᵗ)
    u_t = -γ m̄_t / (√v̂_t + ε),   d_t = -γ m̂_t / (√v̂_t + ε)
    """

    def update(self, g, θ, γ):
        self.update_moments(g)
        m_next = self.m / (1 - self.β1 ** (self.t + 1))
        m_bar = self.β1 * m_next + (1 - self.β1) * self.debiased(g, self.β1)
        return -γ * m_bar / self.denominator()

    def weight(self, k):
        # With g = 0, m̄_{t+k} = m̂_{t+k+1}.
        return self.kept(self.β1, k + 1) / np.sqrt(self.kept(self.β2, k))


@dataclass
class RAdam(Adam):
    """RAdam (arXiv 1908.03265, algorithm 2).

    ρ_∞ = 2/(1 - β₂) - 1,   ρ_t = ρ_∞ - 2 t β₂ᵗ/(1 - β₂ᵗ)
    u_t = -γ r_t m̂_t / (√v̂_t + ε)   if ρ_t ≥ threshold,   else -γ m̂_t;     d_t likewise

    Threshold 5 (the paper: ρ_t > 4) and ε (the paper has none) are those of Optax.
    """

    threshold: float = 5.0

    def direction(self):
        m_hat = self.debiased(self.m, self.β1)
        ρ_inf = 2 / (1 - self.β2) - 1
        ρ = ρ_inf - 2 * self.t * self.β2**self.t / (1 - self.β2**self.t)
        self.keep_margin(ρ - self.threshold)
        if ρ < self.threshold:
            return m_hat
        r = np.sqrt((ρ - 4) * (ρ - 2) * ρ_inf / ((ρ_inf - 4) * (ρ_inf - 2) * ρ))
        return r * m_hat / self.denominator()

    def update(self, g, θ, γ):
        self.update_moments(g)
        return -γ * self.direction()

    def next_update(self, γ):
        return -γ * self.direction()


@dataclass
class Yogi(Adam):
    """Yogi (Zaheer et al., 2018, algorithm 2): Adam with an additive second moment.

    v_t = v_{t-1} - (1 - β₂) sign(v_{t-1} - g_t²) g_t²

    Optax starts *both* moments at 1e-6 and corrects their bias as Adam does; the paper's algorithm
    corrects none.
    """

    ε: float = 1e-3

    m = 1e-6
    v = 1e-6

    def update_moments(self, g):
        self.m = self.β1 * self.m + (1 - self.β1) * g
        self.keep_margin((self.v - g**2) / self.v)
        self.v = self.v - (1 - self.β2) * np.sign(self.v - g**2) * g**2

    def weight(self, k):
        return self.kept(self.β1, k) / np.sqrt(self.held(self.β2, k))


@dataclass
class AdaBelief(Optimizer):
    """AdaBelief (XGrad, table 1; arXiv 2010.07468).

    m_t = β₁ m_{t-1} + (1 - β₁) g_t,   s_t = β₂ s_{t-1} + (1 - β₂) (g_t - m_t)² + ε_root
    u_t = -γ m̂_t / (√ŝ_t + ε),   d_t = -γ m̂_t / (√ŝ_t + ε)

    ε_root is the paper's ε, added to s at each step and kept there; Optax tells it apart from the
    one outside the root.
    """

    β1: float = 0.9
    β2: float = 0.999
    ε: float = 1e-16
    ε_root: float = 1e-16

    moments = ("m", "s")
    m = 0.0
    s = 0.0

    def next_update(self, γ):
        m_hat, s_hat = self.debiased(self.m, self.β1), self.debiased(self.s, self.β2)
        return -γ * m_hat / (np.sqrt(s_hat) + self.ε)

    def weight(self, k):
        # Not what g = 0 does: s_{t+k} = s_t, though it would change a little.
        return self.kept(self.β1, k) / np.sqrt(self.held(self.β2, k))

    def update(self, g, θ, γ):
        self.m = self.β1 * self.m + (1 - self.β1) * g
        self.s = self.β2 * self.s + (1 - self.β2) * (g - self.m) ** 2 + self.ε_root
        return self.next_update(γ)


@dataclass
class AdaM3(Optimizer):
    """AdaM³, also called AdaMomentum (XGrad, table 1; arXiv 2106.11514, algorithm 1).

    m_t = β₁ m_{t-1} + (1 - β₁) g_t,   v_t = β₂ v_{t-1} + (1 - β₂) m_t² + ε
    u_t = -γ m̂_t / √v̂_t,   d_t = -γ m̂_t / √v̂_t
    """

    β1: float = 0.9
    β2: float = 0.999
    ε: float = 1e-16

    moments = ("m", "v")
    m = 0.0
    v = 0.0

    def next_update(self, γ):
        return -γ * self.debiased(self.m, self.β1) / np.sqrt(self.debiased(self.v, self.β2))

    def weight(self, k):
        # Not what g = 0 does: v_{t+k} = v_t, though it would change a little.
        return self.kept(self.β1, k) / np.sqrt(self.held(self.β2, k))

    def update(self, g, θ, γ):
        self.m = self.β1 * self.m + (1 - self.β1) * g
        self.v = self.β2 * self.v + (1 - self.β2) * self.m**2 + self.ε
        return self.next_update(γ)


@dataclass
class Lion(Optimizer):
    """Lion (arXiv 2302.06675, algorithm 2).

    c_t = β₁ m_{t-1} + (1 - β₁) g_t,   m_t = β₂ m_{t-1} + (1 - β₂) g_t
    u_t = -γ (sign(c_t) + λ θ_{t-1}),   d_t = -γ sign(m_t)
    """

    β1: float = 0.9
    β2: float = 0.99
    λ: float = 1e-3

    moments = ("m",)
    m = 0.0

    def update(self, g, θ, γ):
        c = self.β1 * self.m + (1 - self.β1) * g
        self.m = self.β2 * self.m + (1 - self.β2) * g
        self.keep_margin(c)
        self.keep_margin(self.m)
        return -γ * (np.sign(c) + self.λ * θ)

    def next_update(self, γ):
        return -γ * np.sign(self.m)


@dataclass
class AdaBound(Optimizer):
    """AdaBound (arXiv 1902.09843, algorithm 2), α its learning rate and α* the final one.

    m_t, v_t as Adam's
    η_l(t) = α* (1 - 1/(κ t + 1)),   η_u(t) = α* (1 + 1/(κ t))
    η_t = clip(α √(1 - β₂ᵗ) / ((1 - β₁ᵗ)(√v_t + ε)), η_l(t), η_u(t))
    u_t = -η_t ⊙ m_t,   d_t = -η_t ⊙ m_t   (α of update t + 1, bounds of step t)

    Like the authors' code, and unlike their text, with Adam's bias correction and without a further
    1/√t. There κ is called γ; and α* follows the learning rate's schedule, α* = final_scale · α.
    """

    β1: float = 0.9
    β2: float = 0.999
    ε: float = 1e-8
    final_scale: float = 100.0
    κ: float = 1e-3

    moments = ("m", "v")
    m = 0.0
    v = 0.0

    def step_sizes(self, α):
        """Unclipped step sizes, and the bounds on them."""
        correction = np.sqrt(1 - self.β2**self.t) / (1 - self.β1**self.t)
        α_final = self.final_scale * α
        η_l = α_final * (1 - 1 / (self.κ * self.t + 1))
        η_u = α_final * (1 + 1 / (self.κ * self.t))
        return α * correction / (np.sqrt(self.v) + self.ε), η_l, η_u

    def next_update(self, γ):
        return -np.clip(*self.step_sizes(γ)) * self.m

    def update(self, g, θ, γ):
        self.m = self.β1 * self.m + (1 - self.β1) * g
        self.v = self.β2 * self.v + (1 - self.β2) * g**2
        return self.next_update(γ)
