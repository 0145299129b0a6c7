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
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from xgrad_optax._typing import Params, PyTree, Updates
from xgrad_optax.control_variates._decisions import (
    Coefficient,
    Importance,
    best_fraction,
    importance_scores,
    next_coefficient,
    unexplained,
)
from xgrad_optax.control_variates._draws import Drawn, draw_by_importance, draw_evenly
from xgrad_optax.control_variates._evaluation import evaluate
from xgrad_optax.control_variates.alignment import AlignmentState, blend, init_alignment
from xgrad_optax.control_variates.estimator import corrected
from xgrad_optax.control_variates.gradient_predictors import GradientPredictor
from xgrad_optax.control_variates.losses import ExampleLoss, Rows, value_and_gradient
from xgrad_optax.control_variates.selection import batch_size_of, block_size

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
            scores=self._scores,
            defensive=self.defensive,
            chunk_size=self.chunk_size,
        )
        finite = _all_finite((fresh.moments, new))
        alignment = state.alignment
        for old in aged:
            seen = (alignment.weight > 0) & _all_finite(old.moments)
            alignment = optax.tree.where(seen, blend(alignment, old.moments, _DECAY), alignment)
        alignment = optax.tree.where(finite, blend(alignment, fresh.moments, _DECAY), alignment)
        state = state._replace(
            key=key,
            predictor=optax.tree.where(finite, new, state.predictor),
            alignment=alignment,
            sampling_ratio=jnp.where(finite, fresh.sampling_ratio, state.sampling_ratio),
            age=jnp.zeros([], jnp.int32),
            rejected=state.rejected + jnp.where(finite, 0, 1),
        )
        return self._with_level(state, finite)

    def _with_level(
        self, state: PredictedGradientState, usable: jax.Array
    ) -> PredictedGradientState:
        """Chooses the control fraction with the least variance at equal cost."""
        if len(self.fractions) == 1:
            return state
        beta = next_coefficient(self.coefficient, state.alignment)
        best = best_fraction(
            self.fractions,
            state.sampling_ratio * unexplained(state.alignment, beta),
            self.cost_ratio,
            chosen_after_forward=self.importance is not None,
        )
        plain = self.fractions.index(1.0)
        level = jnp.where(usable, best, plain).astype(jnp.int32)
        rarer = jnp.minimum(2 * state.interval, _LONGEST_INTERVAL * self.refit_interval)
        interval = jnp.where(level == plain, rarer, self.refit_interval)
        return state._replace(level=level, interval=interval.astype(jnp.int32))

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
        drawn = self._draw(control_fraction, params, batch, key)
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
        beta = next_coefficient(self.coefficient, state.alignment)
        grads = optax.tree.where(used, corrected(drawn.grads, difference, beta), drawn.grads)
        return drawn.value, self.loss.complete(params, drawn.rows, grads), used

    def _draw(
        self, control_fraction: float, params: Params, batch: PyTree, key: jax.Array
    ) -> Drawn:
        arguments = (self.loss, control_fraction, params, batch, key)
        if self._scores is None:
            needs_rows = self.predictor.needs_rows or self.loss.needs_rows
            return draw_evenly(*arguments, needs_rows=needs_rows)
        return draw_by_importance(*arguments, scores=self._scores, defensive=self.defensive)

    @property
    def _scores(self) -> Callable[[Rows], jax.Array] | None:
        return functools.partial(importance_scores, self.importance) if self.importance else None


def _all_finite(tree: PyTree) -> jax.Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
