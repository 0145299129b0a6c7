"""The gradient function with control variates: one step, the fit, and what follows from it.

One step, for a control fraction f = 1/k:

1. draw one control example from each block of k rows (:mod:`.selection`);
2. forward and backward pass of the control examples, forward pass of the others;
3. G = Σ_j w_j g_j - β·[Σ_j w_j h_j - (1/B) Σ_i h_i], the bracket by *one* call of the predictor,
   which is linear in the weights of the examples.

Given the mini-batch the only thing random is the draw. So G is unbiased for the mini-batch's mean
gradient whatever the predictor has learnt from, as long as it has not seen the draw.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from xgrad_optax._typing import Params, PyTree, Updates
from xgrad_optax.control_variates import theory
from xgrad_optax.control_variates.alignment import (
    AlignmentState,
    blend,
    init_alignment,
    leaf_alignment,
    overall_alignment,
)
from xgrad_optax.control_variates.estimator import corrected
from xgrad_optax.control_variates.evaluation import evaluate
from xgrad_optax.control_variates.losses import (
    ExampleLoss,
    Rows,
    value_and_gradient,
)
from xgrad_optax.control_variates.predictors import GradientPredictor
from xgrad_optax.control_variates.selection import (
    Selection,
    batch_size_of,
    block_size,
    leave,
    pick,
    regroup,
    select,
    spread,
)

NamedImportance = Literal["loss", "residual", "output_gradient"]
NAMED_IMPORTANCE: tuple[str, ...] = get_args(NamedImportance)
Importance = NamedImportance | Callable[[Rows], jax.Array]
Coefficient = float | Literal["overall", "leaf"]

# While the plain gradient is the better one, fits only probe, and come ever more rarely.
_LONGEST_INTERVAL = 16

# Weight of the past in the running alignment: fits are rare, so the newest counts half.
_DECAY = 0.5


class PredictedGradientState(NamedTuple):
    """What is carried from step to step; its structure, shapes and dtypes never change.

    Attributes:
      key: PRNG key of the draws.
      predictor: what the predictor has learnt.
      alignment: running ρ, κ and σ's, measured at each fit on examples held out from it.
      sampling_ratio: running η of the importance, float32 ``()``.
      level: index into the control fractions, int32 ``()``.
      age: steps since the last fit, int32 ``()``.
      interval: after how many steps the next fit is due, int32 ``()``.
      rejected: number of steps and fits whose predictions were not finite and were left out,
        int32 ``()``.
    """

    key: jax.Array
    predictor: PyTree
    alignment: AlignmentState
    sampling_ratio: jax.Array
    level: jax.Array
    age: jax.Array
    interval: jax.Array
    rejected: jax.Array


@dataclasses.dataclass(frozen=True)
class PredictedGradient:
    """A gradient function with control variates; made by :func:`predicted_value_and_grad`.

    All methods are pure, can be jitted, and leave the structure of the state as it is.

    Attributes:
      loss: what is trained.
      predictor: what predicts.
      fractions: the control fractions it can use.
      importance: what the control examples are chosen by, ``None`` for evenly.
      coefficient: β, or how it is measured.
      refit_interval: steps between fits.
      cost_ratio: c; ``None`` if there is nothing to choose.
      defensive: share of the choice that is even.
      chunk_size: how many per-example gradients exist at a time while alignments are measured.
    """

    loss: ExampleLoss
    predictor: GradientPredictor
    fractions: tuple[float, ...]
    importance: Importance | None
    coefficient: Coefficient
    refit_interval: int
    cost_ratio: float | None
    defensive: float
    chunk_size: int = 32

    # ---------------------------------------------------------------------------------------------
    # The state
    # ---------------------------------------------------------------------------------------------

    def init(self, params: Params, key: jax.Array) -> PredictedGradientState:
        """Returns the state before the first fit.

        Args:
          params: the parameters, :class:`HeadedParams` for a :class:`HeadedLoss`.
          key: PRNG key for all draws.
        """
        return PredictedGradientState(
            key=key,
            predictor=self.predictor.init(self.loss, params),
            alignment=init_alignment(self.loss.predicted_part(params)),
            sampling_ratio=jnp.ones([], jnp.float32),
            level=jnp.zeros([], jnp.int32),
            age=jnp.full([], self.refit_interval, jnp.int32),
            interval=jnp.full([], self.refit_interval, jnp.int32),
            rejected=jnp.zeros([], jnp.int32),
        )

    def is_due(self, state: PredictedGradientState) -> jax.Array:
        """Whether it is time for :meth:`fit`, bool ``()``; usable in ``lax.cond`` and in ``if``."""
        return state.age >= state.interval

    def control_fraction(self, state: PredictedGradientState) -> jax.Array:
        """The control fraction f that the next step will use, float32 ``()``."""
        return jnp.asarray(self.fractions, jnp.float32)[state.level]

    def fit(
        self, params: Params, state: PredictedGradientState, batch: PyTree
    ) -> PredictedGradientState:
        """Learns at ``params``, measures the alignment, and chooses the control fraction anew.

        Args:
          params: the current parameters.
          state: the state.
          batch: ``predictor.fit_examples`` rows to learn from, then two or more to measure on; all
            drawn at random from the training data.

        Returns:
          The new state. A fit whose predictions are not finite is not used.

        Raises:
          ValueError: the batch is too small.
        """
        count, learn = batch_size_of(batch), self.predictor.fit_examples
        if count < learn + 2:
            raise ValueError(
                f"a fit needs {learn} examples to learn from and at least 2 more to measure the"
                f" alignment on, got {count} in all."
            )
        key, fit_key = jax.random.split(state.key)
        learning, held_out = (
            jax.tree.map(lambda x, part=part: x[part], batch)
            for part in (slice(None, learn), slice(learn, None))
        )
        new = state.predictor
        if learn:
            new = self.predictor.fit(self.loss, state.predictor, params, learning, fit_key)
        # The old state has aged since its fit; a step meets something between the two.
        states = [state.predictor, new] if learn else [new]
        *aged, fresh = evaluate(
            self.loss,
            self.predictor,
            states,
            params,
            held_out,
            scores=self._scores if self.importance else None,
            defensive=self.defensive,
            chunk_size=self.chunk_size,
        )
        finite = _all_finite((fresh.moments, new))
        alignment = state.alignment
        for old in aged:
            seen = (alignment.weight > 0) & _all_finite(old.moments)
            alignment = _where(seen, blend(alignment, old.moments, _DECAY), alignment)
        alignment = _where(finite, blend(alignment, fresh.moments, _DECAY), alignment)
        state = state._replace(
            key=key,
            predictor=_where(finite, new, state.predictor),
            alignment=alignment,
            sampling_ratio=jnp.where(finite, fresh.sampling_ratio, state.sampling_ratio),
            age=jnp.zeros([], jnp.int32),
            rejected=state.rejected + jnp.where(finite, 0, 1),
        )
        return self._with_level(state, finite)

    # ---------------------------------------------------------------------------------------------
    # The gradient
    # ---------------------------------------------------------------------------------------------

    def __call__(
        self, params: Params, state: PredictedGradientState, batch: PyTree
    ) -> tuple[tuple[jax.Array, PredictedGradientState], Updates]:
        """Loss and gradient of a mini-batch, as ``jax.value_and_grad(..., has_aux=True)`` would.

        Args:
          params: where the gradient is taken, for instance the predicted weights of
            :func:`xgrad_optax.with_weight_prediction`.
          state: the state.
          batch: the mini-batch, B rows; B a multiple of one over each control fraction.

        Returns:
          ``((loss, state), grads)``, ``grads`` a tree like ``params``. The loss is the mean over
          all rows whose forward pass ran.

        Raises:
          ValueError: the batch cannot be split.
        """
        for f in self.fractions:
            block_size(batch_size_of(batch), f)
        branches = [self.at_fraction(f) for f in self.fractions]
        if len(branches) == 1:
            return branches[0](params, state, batch)
        return jax.lax.switch(state.level, branches, params, state, batch)

    def at_fraction(self, control_fraction: float) -> Callable[..., Any]:
        """The call with this control fraction, whatever the state says; 1 is the plain gradient."""

        def step(
            params: Params, state: PredictedGradientState, batch: PyTree
        ) -> tuple[tuple[jax.Array, PredictedGradientState], Updates]:
            if control_fraction == 1:
                value, grads = value_and_gradient(self.loss, params, batch)
                return (value, state._replace(age=state.age + 1)), grads
            key, draw_key = jax.random.split(state.key)
            value, grads, used = self._gradient(control_fraction, params, state, batch, draw_key)
            rejected = state.rejected + jnp.where(used, 0, 1)
            state = state._replace(key=key, age=state.age + 1, rejected=rejected)
            return (value, state), grads

        return step

    def _gradient(
        self,
        control_fraction: float,
        params: Params,
        state: PredictedGradientState,
        batch: PyTree,
        key: jax.Array,
    ) -> tuple[jax.Array, Updates, jax.Array]:
        """Loss, gradient, and whether the prediction was finite."""
        draw = self._draw_by_importance if self.importance else self._draw_evenly
        drawn = draw(control_fraction, params, batch, key)
        difference = self.predictor.predict(
            self.loss,
            state.predictor,
            params,
            drawn.batch,
            drawn.rows,
            drawn.weights - 1 / batch_size_of(batch),
        )
        used = _all_finite(difference)
        # Without its correction the control gradient is still unbiased, only noisier.
        grads = _where(
            used, corrected(drawn.grads, difference, self._coefficient(state)), drawn.grads
        )
        return drawn.value, self.loss.complete(params, drawn.rows, grads), used

    def _draw_evenly(
        self, control_fraction: float, params: Params, batch: PyTree, key: jax.Array
    ) -> "_Drawn":
        """The draw comes first, so that every row has one forward pass."""
        selection = select(key, batch_size_of(batch), control_fraction)
        control = pick(batch, selection)
        rows, grads = self.loss.weighted_gradient(params, control, selection.weights)
        if not (self.predictor.needs_rows or self.loss.needs_rows):
            weights = spread(selection, batch_size_of(batch))
            return _Drawn(batch, None, weights, grads, rows.losses.mean())  # equal weights
        others = leave(batch, selection)
        rows = regroup(rows, self.loss.forward(params, others))
        batch = regroup(control, others)
        first = Selection(jnp.zeros_like(selection.choice), selection.weights)
        return _Drawn(batch, rows, spread(first, batch_size_of(batch)), grads, rows.losses.mean())

    def _draw_by_importance(
        self, control_fraction: float, params: Params, batch: PyTree, key: jax.Array
    ) -> "_Drawn":
        """The forward pass of all rows decides; that of the drawn ones runs once more."""
        size, rows = batch_size_of(batch), self.loss.forward(params, batch)
        scores = jax.lax.stop_gradient(self._scores(rows))
        selection = select(key, size, control_fraction, scores, defensive=self.defensive)
        _, grads = self.loss.weighted_gradient(params, pick(batch, selection), selection.weights)
        return _Drawn(batch, rows, spread(selection, size), grads, rows.losses.mean())

    # ---------------------------------------------------------------------------------------------
    # Decisions
    # ---------------------------------------------------------------------------------------------

    def _scores(self, rows: Rows) -> jax.Array:
        if callable(self.importance):
            return self.importance(rows)
        if self.importance == "loss":
            return rows.losses
        each = rows.residual if self.importance == "residual" else rows.output_gradient
        return jnp.sqrt(jnp.sum(each**2, axis=1))

    def _coefficient(self, state: PredictedGradientState) -> Any:
        """β, or a tree of them; 1 until something was measured."""
        if isinstance(self.coefficient, float):
            return self.coefficient
        measure = overall_alignment if self.coefficient == "overall" else leaf_alignment
        measured = state.alignment.weight > 0
        return jax.tree.map(
            lambda beta: jnp.where(measured, beta, 1.0), measure(state.alignment).coefficient
        )

    def _with_level(
        self, state: PredictedGradientState, usable: jax.Array
    ) -> PredictedGradientState:
        """Chooses the control fraction with the least variance at equal cost."""
        if len(self.fractions) == 1:
            return state
        missed = state.sampling_ratio * self._unexplained(state)
        after_forward = self.importance is not None
        ratios = [
            (1 + (1 - f) / f * missed)
            * float(theory.relative_cost(f, self.cost_ratio, chosen_after_forward=after_forward))
            for f in self.fractions
        ]
        plain = self.fractions.index(1.0)
        level = jnp.where(usable, jnp.argmin(jnp.stack(ratios)), plain).astype(jnp.int32)
        longest = _LONGEST_INTERVAL * self.refit_interval
        rarer = jnp.minimum(2 * state.interval, longest)
        interval = jnp.where(level == plain, rarer, self.refit_interval)
        return state._replace(level=level, interval=interval.astype(jnp.int32))

    def _unexplained(self, state: PredictedGradientState) -> jax.Array:
        """R, the variance of g - βh over that of g, with the β of the next step."""
        leaves = leaf_alignment(state.alignment)
        beta = self._coefficient(state)
        if jax.tree.structure(beta) == jax.tree.structure(0):
            beta = jax.tree.map(lambda _: beta, leaves.rho)

        def missed(beta: Any, rho: jax.Array, sigma_g: jax.Array, sigma_h: jax.Array) -> jax.Array:
            return sigma_g**2 + (beta * sigma_h) ** 2 - 2 * beta * rho * sigma_g * sigma_h

        each = jax.tree.map(missed, beta, leaves.rho, leaves.sigma_g, leaves.sigma_h)
        total = overall_alignment(state.alignment).sigma_g ** 2
        left = jnp.sum(jnp.stack(jax.tree.leaves(each)))
        return jnp.where(total > 0, left / jnp.where(total > 0, total, 1.0), 1.0)


class _Drawn(NamedTuple):
    """A mini-batch after the draw.

    Attributes:
      batch: its rows, in the order of the next two.
      rows: their forward pass, ``None`` if nobody needs it.
      weights: w_i of the drawn rows, zero for the others, ``[B]``.
      grads: Σ_i w_i g_i.
      value: the mean loss.
    """

    batch: PyTree
    rows: Rows | None
    weights: jax.Array
    grads: Updates
    value: jax.Array


def _all_finite(tree: PyTree) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def _where(condition: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
