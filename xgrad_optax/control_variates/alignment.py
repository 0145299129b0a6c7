"""How well predicted gradients agree with true ones: streaming estimates of ρ, κ and the σ's."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from xgrad_optax._typing import Params, PyTree, Updates


class Moments(NamedTuple):
    """Second central moments per example, summed over the entries of each leaf.

    Attributes:
      gradients: σ_g², a tree of scalars.
      predictions: σ_h², a tree of scalars.
      products: ρ σ_g σ_h, a tree of scalars.
    """

    gradients: PyTree
    predictions: PyTree
    products: PyTree


class AlignmentState(NamedTuple):
    """Running means of the moments.

    Attributes:
      moments: exponentially weighted sums, trees of float32 scalars like the parameters.
      weight: sum of the weights, float32, shape ``()``; 0 before the first update.
    """

    moments: Moments
    weight: jax.Array


class Alignment(NamedTuple):
    """What the moments say, overall (scalars) or per leaf (trees of scalars).

    Attributes:
      rho: ρ, correlation of the centred gradients; 0 where either does not vary.
      kappa: κ = σ_h/σ_g; 0 where the true gradients do not vary.
      sigma_g: σ_g, root of the total variance of the true gradient of one example.
      sigma_h: σ_h, the same of the predicted gradient.
    """

    rho: Any
    kappa: Any
    sigma_g: Any
    sigma_h: Any

    @property
    def coefficient(self) -> Any:
        """β = ρ/κ, the best multiple of the prediction; 0 where the prediction does not vary."""
        return jax.tree.map(_safe_ratio, self.rho, self.kappa)


def init_alignment(params: Params) -> AlignmentState:
    """Returns the state before anything was measured.

    Args:
      params: tree of what the gradients are taken with respect to.
    """

    def zeros() -> PyTree:  # arrays of their own, or the state could not be donated
        return jax.tree.map(lambda _: jnp.zeros([], jnp.float32), params)

    return AlignmentState(Moments(zeros(), zeros(), zeros()), jnp.zeros([], jnp.float32))


def update_alignment(
    state: AlignmentState,
    grads: Updates,
    predictions: Updates,
    *,
    group_size: int = 1,
    decay: float = 0.9,
) -> AlignmentState:
    r"""Takes in true and predicted gradients of the same examples.

    With m gradients the moments are estimated without bias, as
    :math:`\frac{b}{m-1}\sum_j \langle g_j - \bar g, h_j - \bar h\rangle`, b the ``group_size``.

    Args:
      state: the state so far.
      grads: true gradients, leaves ``[m, ...]`` with m >= 2.
      predictions: predicted gradients, a tree like ``grads``.
      group_size: how many examples each of them is the mean of.
      decay: weight of the past, in [0, 1).

    Returns:
      The new state, of the same structure.

    Raises:
      ValueError: fewer than two gradients, or ``decay`` out of range.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> grads = jax.random.normal(jax.random.key(0), (100, 3))
      >>> state = update_alignment(init_alignment(jnp.zeros(3)), grads, 0.5 * grads)
      >>> measured = overall_alignment(state)
      >>> round(float(measured.rho), 4), round(float(measured.kappa), 4)
      (1.0, 0.5)
    """
    count = min(len(leaf) for leaf in jax.tree.leaves(grads))
    if count < 2:
        raise ValueError(f"a variance needs at least two gradients, got {count}.")

    def moment(xs: Updates, ys: Updates) -> PyTree:
        def one(x: jax.Array, y: jax.Array) -> jax.Array:
            x, y = (_centred(z.astype(jnp.float32)) for z in (x, y))
            return group_size * jnp.vdot(x, y) / (count - 1)

        return jax.tree.map(one, xs, ys)

    new = Moments(
        moment(grads, grads), moment(predictions, predictions), moment(grads, predictions)
    )
    return blend(state, new, decay)


def blend(state: AlignmentState, new: Moments, decay: float) -> AlignmentState:
    """Adds new moments to the running means.

    Raises:
      ValueError: ``decay`` is out of range.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must lie in [0, 1), got {decay}.")
    mix = lambda old, fresh: decay * old + (1 - decay) * fresh  # noqa: E731
    return AlignmentState(jax.tree.map(mix, state.moments, new), decay * state.weight + (1 - decay))


def overall_alignment(state: AlignmentState) -> Alignment:
    """ρ, κ, σ_g and σ_h over all parameters together; zeros before the first update."""
    gradients, predictions, products = (
        jnp.sum(jnp.stack(jax.tree.leaves(part))) for part in state.moments
    )
    return _alignment(gradients, predictions, products, state.weight)


def leaf_alignment(state: AlignmentState) -> Alignment:
    """ρ, κ, σ_g and σ_h of each leaf: four trees like the parameters."""
    measured = jax.tree.map(lambda g, h, p: _alignment(g, h, p, state.weight), *state.moments)
    is_one = lambda x: isinstance(x, Alignment)  # noqa: E731

    def part(name: str) -> PyTree:
        return jax.tree.map(lambda one: getattr(one, name), measured, is_leaf=is_one)

    return Alignment(part("rho"), part("kappa"), part("sigma_g"), part("sigma_h"))


def _alignment(gradients: Any, predictions: Any, products: Any, weight: Any) -> Alignment:
    seen = jnp.where(weight > 0, weight, 1.0)
    sigma_g, sigma_h = (jnp.sqrt(jnp.maximum(m, 0.0) / seen) for m in (gradients, predictions))
    rho = _safe_ratio(products / seen, sigma_g * sigma_h)
    return Alignment(jnp.clip(rho, -1.0, 1.0), _safe_ratio(sigma_h, sigma_g), sigma_g, sigma_h)


def _safe_ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    nonzero = denominator > 0
    return jnp.where(nonzero, numerator / jnp.where(nonzero, denominator, 1.0), 0.0)


def _centred(x: jax.Array) -> jax.Array:
    return x - x.mean(axis=0, keepdims=True)
