r"""Predicting gradients from the forward pass by the Neural Tangent Kernel (arXiv 2511.05187).

With features a(x) and a linear head, the trunk's gradient of an example is J(x)ᵀδ, with δ = W r
known from the forward pass. It is predicted from n examples whose gradients g_j are known, by
kernel ridge regression with K_ij = (δ_i·δ_j)(ã_i·ã_j), ã = (a, 1), the kernel of linear regression
on δ ⊗ ã:

    h(x) = Σ_j g_j [(K + λI)⁻¹ k(x)]_j,     k(x)_j = (δ_j·δ)(ã_j·ã)

Of the eigenvectors v of K only the k with the largest eigenvalues μ are kept. They are known
*before* any gradient is, so that the basis U = Σ_j g_j v_jᵀ (P × k) is summed up in one pass over
chunks of examples, and no P × n matrix ever exists:

    h(x) = U (M + λI)⁻¹ Vᵀ k(x),   M = diag(μ)

Since k is bilinear, the weighted mean over a micro-batch needs only Σ_i w_i δ_i ⊗ ã_i.
"""

from typing import Any, ClassVar, NamedTuple, get_args

import jax
import jax.numpy as jnp

from xgrad_optax._typing import Params, PyTree, Updates
from xgrad_optax.control_variates._kernels import (
    RIDGES,
    Kernel,
    kernel_matrix,
    kernel_mean,
    leave_one_out_ridge,
)
from xgrad_optax.control_variates.gradient_predictors import GradientPredictor
from xgrad_optax.control_variates.losses import ExampleLoss, Rows, per_example_gradients
from xgrad_optax.control_variates.selection import batch_size_of

HEAD_NEEDED = (
    "the neural tangent kernel predicts from the output of a trunk: give predicted_value_and_grad a"
    " HeadedLoss (features, linear head, loss of the logits)."
)

# Gradients enter the choice of the ridge by a random projection to so many numbers.
_SKETCH_SIZE = 256


class NTKState(NamedTuple):
    """What was learnt from n examples; n, k and d as in the module's text.

    Attributes:
      output_gradients: δ_j, ``[n, d]``; float32 like the next two and λ, or float64 for a trunk
        with such features.
      features: ã_j, ``[n, d + 1]``.
      coefficients: (M + λI)⁻¹ Vᵀ, ``[k, n]``; zero before the first fit.
      basis: U, a tree like the trunk of arrays ``[k, ...]``.
      ridge: λ over the largest eigenvalue, ``()``.
    """

    output_gradients: jax.Array
    features: jax.Array
    coefficients: jax.Array
    basis: PyTree
    ridge: jax.Array


class NeuralTangentKernel(GradientPredictor):
    """See :func:`neural_tangent_kernel`."""

    needs_rows: ClassVar[bool] = True

    def __init__(
        self, fit_examples: int, rank: int, kernel: Kernel, basis_dtype: Any, chunk_size: int
    ):
        self.fit_examples = fit_examples
        self.rank = rank
        self.kernel: Kernel = kernel
        self.basis_dtype = basis_dtype
        self.chunk_size = chunk_size
        # A symmetric eigendecomposition, and all candidates for the ridge but one.
        candidates = 4.0 * fit_examples * rank * _SKETCH_SIZE * (len(RIDGES) - 1)
        self.uncounted_flops: float = 9.0 * fit_examples**3 + candidates

    def in_one_chunk(self) -> "NeuralTangentKernel":
        """All per-example gradients at once."""
        n = self.fit_examples
        return NeuralTangentKernel(n, self.rank, self.kernel, self.basis_dtype, chunk_size=n)

    def init(self, loss: ExampleLoss, params: Params) -> NTKState:
        """All zeros: predicts zero."""
        trunk = loss.predicted_part(params)
        if trunk is params:
            raise ValueError(HEAD_NEEDED)
        kernel = params.head["kernel"]
        width, dtype = kernel.shape[0], _working_dtype(kernel)
        basis = jax.tree.map(lambda p: _stacked_zeros(p, self.rank, self._dtype_of(p)), trunk)
        n = self.fit_examples
        return NTKState(
            output_gradients=jnp.zeros((n, width), dtype),
            features=jnp.zeros((n, width + 1), dtype),
            coefficients=jnp.zeros((self.rank, n), dtype),
            basis=basis,
            ridge=jnp.zeros([], dtype),
        )

    def fit(
        self, loss: ExampleLoss, state: NTKState, params: Params, batch: PyTree, key: jax.Array
    ) -> NTKState:
        """Learns from the gradients of ``fit_examples`` rows, chunk by chunk."""
        delta, features = _kernel_inputs(loss.forward(params, batch))
        gram = kernel_matrix(self.kernel, (delta, features), (delta, features))
        values, vectors = jnp.linalg.eigh(gram)
        # Rounding makes eigenvalues that are zero negative.
        values, vectors = jnp.maximum(values[-self.rank :], 0.0), vectors[:, -self.rank :]
        # Summing up from zeros like the old basis keeps its sharding.
        empty = jax.tree.map(lambda u: jnp.zeros_like(u, vectors.dtype), state.basis)
        basis, sketch = self._sum_up(loss, params, batch, vectors, empty, key)
        ridge = leave_one_out_ridge(values, vectors, sketch.astype(vectors.dtype))
        damped = values + ridge * values[-1]
        # Where every δ is zero there is nothing to learn, and zero is the right prediction.
        inverse = jnp.where(damped > 0, 1.0 / jnp.where(damped > 0, damped, 1.0), 0.0)
        coefficients = (vectors * inverse[None]).T
        return NTKState(
            delta,
            features,
            coefficients,
            jax.tree.map(lambda u, old: u.astype(old.dtype), basis, state.basis),
            ridge,
        )

    def predict(
        self,
        loss: ExampleLoss,
        state: NTKState,
        params: Params,
        batch: PyTree,
        rows: Rows | None,
        weights: jax.Array,
    ) -> Updates:
        """One small matmul and one product with the basis; no backward pass."""
        del batch
        assert rows is not None
        delta, features = _kernel_inputs(rows)
        learnt = (state.output_gradients, state.features)
        weights = weights.astype(delta.dtype)
        similarity = kernel_mean(self.kernel, learnt, (delta, features), weights)
        coefficients = state.coefficients @ similarity

        def combine(basis: jax.Array, param: jax.Array) -> jax.Array:
            total = jnp.einsum(
                "k,k...->...",
                coefficients.astype(basis.dtype),
                basis,
                preferred_element_type=_working_dtype(basis),
            )
            return total.astype(param.dtype)

        return jax.tree.map(combine, state.basis, loss.predicted_part(params))

    def _sum_up(
        self,
        loss: ExampleLoss,
        params: Params,
        batch: PyTree,
        vectors: jax.Array,
        empty: PyTree,
        key: jax.Array,
    ) -> tuple[PyTree, jax.Array]:
        """U = Σ_j g_j v_jᵀ and a random projection of every g_j, ``[n, sketch]``."""
        chunks, present = _chunks((batch, vectors), self.chunk_size)

        def add(basis: PyTree, chunk: Any) -> tuple[PyTree, jax.Array]:
            (rows, weights), present = chunk
            grads = per_example_gradients(loss, params, rows)
            weights = jnp.where(present[:, None], weights, 0.0)
            basis = jax.tree.map(
                lambda u, g: u + jnp.einsum("ck,c...->k...", weights, g.astype(u.dtype)),
                basis,
                grads,
            )
            return basis, _sketched(grads, key)

        basis, sketches = jax.lax.scan(add, empty, (chunks, present))
        return basis, sketches.reshape(-1, sketches.shape[-1])[: batch_size_of(batch)]

    def _dtype_of(self, param: jax.Array) -> Any:
        return param.dtype if self.basis_dtype is None else self.basis_dtype


def neural_tangent_kernel(
    fit_examples: int = 512,
    rank: int = 64,
    *,
    kernel: Kernel = "linear",
    basis_dtype: jax.typing.DTypeLike | None = None,
    chunk_size: int = 32,
) -> GradientPredictor:
    r"""Predicts the trunk's gradient from the forward pass, linearly in :math:`\delta\otimes(a,1)`.

    .. math::
        h(x) = U (M + \lambda I)^{-1} V^\top k(x), \qquad
        k(x)_j = (\delta_j\cdot\delta)(a_j\cdot a + 1)

    fitted by ridge regression to the gradients of ``fit_examples`` examples, with the ridge λ
    chosen by leave-one-out. The other kernels replace :math:`\delta_j\cdot\delta` by
    :math:`|\delta_j||\delta|\,\varphi(\|\delta_j/|\delta_j| - \delta/|\delta|\|)`, where φ(r) is
    :math:`e^{-r^2/2}` or :math:`e^{-r}`: a gradient is proportional to the size of δ, not linear in
    its direction.

    Memory: ``rank`` trees like the trunk, sharded like it. A fit needs ``chunk_size`` more while it
    runs. A prediction is one small matmul and one product of ``rank`` times the trunk's size.

    Args:
      fit_examples: n, how many gradients to learn from; more is better and costs more.
      rank: k <= n, how many directions to keep.
      kernel: ``"linear"``, ``"gaussian"`` or ``"laplace"``.
      basis_dtype: dtype of U, ``None`` for the parameters' own; ``jnp.bfloat16`` halves it.
      chunk_size: how many per-example gradients exist at a time.

    Returns:
      A predictor for a :class:`~xgrad_optax.control_variates.HeadedLoss`.

    Raises:
      ValueError: a number is not positive, ``rank`` exceeds ``fit_examples``, the kernel is
        unknown, or ``basis_dtype`` is not a floating-point dtype.

    Examples:
      >>> neural_tangent_kernel(fit_examples=256, rank=32).fit_examples
      256

    References:
      arXiv 2511.05187 (the linear predictor); the one-pass basis, the other kernels and the choice
      of λ are ours.
    """
    numbers = {"fit_examples": fit_examples, "rank": rank, "chunk_size": chunk_size}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive whole number, got {value!r}.")
    if rank > fit_examples:
        raise ValueError(
            f"rank {rank} exceeds the {fit_examples} examples of the fit, which span no more"
            " directions than there are examples."
        )
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel must be one of {', '.join(get_args(Kernel))}, got {kernel!r}.")
    if basis_dtype is not None and not jnp.issubdtype(jnp.dtype(basis_dtype), jnp.floating):
        raise ValueError(f"basis_dtype must be a floating-point dtype, got {basis_dtype}.")
    return NeuralTangentKernel(fit_examples, rank, kernel, basis_dtype, chunk_size)


def _kernel_inputs(rows: Rows) -> tuple[jax.Array, jax.Array]:
    dtype = _working_dtype(rows.features)
    features, delta = rows.features.astype(dtype), rows.output_gradient.astype(dtype)
    ones = jnp.ones((features.shape[0], 1), dtype)
    return delta, jnp.concatenate([features, ones], axis=1)


def _sketched(grads: Updates, key: jax.Array) -> jax.Array:
    """A random projection of each gradient that keeps inner products, ``[c, sketch]``.

    Entries get random signs, and those whose places agree modulo the size are added up.
    """
    total = 0.0
    for number, leaf in enumerate(jax.tree.leaves(grads)):
        flat = leaf.reshape(leaf.shape[0], -1).astype(jnp.result_type(float))
        signs = jax.random.rademacher(jax.random.fold_in(key, number), flat.shape[1:], flat.dtype)
        padding = -flat.shape[1] % _SKETCH_SIZE
        signed = jnp.pad(flat * signs[None], ((0, 0), (0, padding)))
        total = total + signed.reshape(flat.shape[0], -1, _SKETCH_SIZE).sum(axis=1)
    return jnp.asarray(total)


def _chunks(tree: PyTree, size: int) -> tuple[PyTree, jax.Array]:
    """Leaves ``[n, ...]`` as ``[chunks, size, ...]``, and which of those rows are real."""
    count = batch_size_of(tree)
    size = min(size, count)
    padding = -count % size
    # Rows to fill up with must be proper examples, or their gradients might not be finite.
    places = jnp.minimum(jnp.arange(count + padding), count - 1)
    chunked = jax.tree.map(lambda x: jnp.asarray(x)[places].reshape(-1, size, *x.shape[1:]), tree)
    return chunked, (jnp.arange(count + padding) < count).reshape(-1, size)


def _stacked_zeros(param: jax.Array, count: int, dtype: Any) -> jax.Array:
    return jnp.broadcast_to(jnp.zeros_like(param, dtype)[None], (count, *param.shape))


def _working_dtype(x: jax.Array) -> Any:
    """What the kernel and the sums are computed in: at least single precision."""
    return jnp.float64 if x.dtype == jnp.float64 else jnp.float32
