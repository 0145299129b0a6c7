"""Predictors: what will the inner optimizer do next?

A predictor is a small pure object in the image of a ``GradientTransformation``: it may set up a
memory, observe each update, and predict how far the parameters will have moved s steps from now.
``last_update`` works for every transform, ``zero_gradient`` too and without memory, the
closed forms (``sgdm``, ``adam``, ...) read the moments that the optimizer keeps anyway.
"""

import abc
import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from xgrad_optax import _moments
from xgrad_optax._state import (
    Hyperparameters,
    describe_states,
    find_states,
    is_masked,
    scheduled,
    unboxed,
)
from xgrad_optax._typing import OptState, Params, PyTree, Updates

__all__ = [
    "Hyperparameters",
    "Predictor",
    "adabelief",
    "adabound",
    "adam",
    "adam3",
    "last_update",
    "lion",
    "radam",
    "rmsprop",
    "sgdm",
    "zero_gradient",
]


@dataclasses.dataclass(frozen=True)
class Predictor(abc.ABC):
    """Answers one question: how will the inner optimizer move the parameters next?

    A predictor travels in the optimizer state, so it is a pytree: whatever it needs to know is one
    of its ``hyperparameters``, of which only arrays are leaves. (Subclasses are registered with JAX
    by being defined.) If its memory is empty it adds nothing to the inner optimizer's state.

    Attributes:
      hyperparameters: named numbers, schedules, arrays.
      transient: whether the memory holds nothing but the last update. The drop-in form, which
        predicts at the moment of the update, does not store such a memory.
      linear: whether the prediction for s steps is s times that for one step. Whoever keeps the
        predictions of a moment for many s (:mod:`xgrad_optax.diagnostics`) then keeps only one.
    """

    hyperparameters: Hyperparameters
    transient: ClassVar[bool] = False
    linear: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        jax.tree_util.register_dataclass(cls, data_fields=["hyperparameters"], meta_fields=[])

    def bind(self, inner: optax.GradientTransformationExtraArgs) -> "Predictor":
        """Returns the predictor for this inner transform; most need not know it."""
        del inner
        return self

    def check(self, inner_state: OptState) -> None:
        """Raises a ValueError if the predictor cannot read this inner state."""
        del inner_state

    def init(self, params: Params) -> PyTree:
        """Returns the memory before the first update: ``()`` if nothing is remembered."""
        del params
        return ()

    def observe(self, memory: PyTree, updates: Updates) -> PyTree:
        """Returns the memory after the update u_t that the inner transform just made."""
        del updates
        return memory

    @abc.abstractmethod
    def predict(self, memory: PyTree, inner_state: OptState, params: Params, s: Any) -> Updates:
        """Returns θ̂_{t+s} - θ_t, for most predictors s·d_t.

        Args:
          memory: this predictor's memory after t updates.
          inner_state: the inner transform's state after t updates.
          params: θ_t, with ``optax.MaskedNode`` possible anywhere.
          s: how many steps ahead, a number or a scalar array.

        Returns:
          A tree like the inner transform's updates; exactly zero before the first update.
        """


# --------------------------------------------------------------------------------------------------
# The last update
# --------------------------------------------------------------------------------------------------


class LastUpdate(Predictor):
    """See :func:`last_update`."""

    transient: ClassVar[bool] = True
    linear: ClassVar[bool] = True

    def init(self, params: Params) -> PyTree:
        """Zeros: nothing has been observed."""
        return optax.tree.zeros_like(params, dtype=self.hyperparameters["dtype"])

    def observe(self, memory: PyTree, updates: Updates) -> PyTree:
        """Keeps the update, in the memory's dtype."""
        return jax.tree.map(lambda m, u: u.astype(m.dtype), memory, updates)

    def predict(self, memory: PyTree, inner_state: OptState, params: Params, s: Any) -> Updates:
        """s·u_t."""
        del inner_state, params
        return scaled(s, memory)


def last_update(dtype: jax.typing.DTypeLike | None = None) -> Predictor:
    r"""Predicts that the optimizer repeats the update it just made: :math:`d_t = u_t`.

    Works for every transform and chain, and is the default for those that this library has no
    closed form for. For RMSprop it is the papers' own rule.

    Args:
      dtype: dtype of the remembered update; ``None`` for the parameters' own. ``jnp.bfloat16``
        halves the memory.

    Returns:
      A predictor whose memory is one tree like the parameters.

    Raises:
      TypeError: ``dtype`` is no dtype.
      ValueError: ``dtype`` is not a floating-point or complex dtype.

    Examples:
      >>> import jax.numpy as jnp, optax, xgrad_optax
      >>> lookahead_params, tx = xgrad_optax.with_weight_prediction(
      ...     optax.sgd(0.5), s=2, predictor=last_update()
      ... )
      >>> params = jnp.array(1.0)
      >>> updates, state = tx.update(jnp.array(0.2), tx.init(params), params)
      >>> float(updates), float(lookahead_params(params + updates, state))  # 0.9 + 2·(-0.1)
      (-0.10..., 0.69...)

    References:
      XGrad, arXiv 2305.18240, eq. 6 (the update is :math:`\Delta\theta_t`).
    """
    if dtype is not None:
        dtype = jnp.dtype(dtype)
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(
                f"last_update(dtype=...) remembers updates, which need a floating-point or complex"
                f" dtype, got {dtype}."
            )
    return LastUpdate(Hyperparameters(dtype=dtype))


# --------------------------------------------------------------------------------------------------
# The zero-gradient rollout
# --------------------------------------------------------------------------------------------------


@jax.tree_util.register_static
class Coverage:
    """Which parameters a state covers: the tree structure of its parameters, masks included.

    ``optax.tree.map_params`` calls ``init`` with a placeholder that has no leaves and compares the
    result with a real state; so a coverage without leaves, which covers nothing, equals any other.
    """

    def __init__(self, params: Params):
        self._structure = jax.tree.structure(params)

    def select(self, params: Params) -> Params:
        """``params`` with ``optax.MaskedNode`` in place of what is not covered."""
        covered = jax.tree.unflatten(self._structure, [True] * self._structure.num_leaves)
        return jax.tree.map(
            lambda c, p: c if is_masked(c) else p, unboxed(covered), params, is_leaf=is_masked
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Coverage):
            return NotImplemented
        structures = (self._structure, other._structure)
        return structures[0] == structures[1] or any(s.num_leaves == 0 for s in structures)

    def __hash__(self) -> int:
        return hash(Coverage)


class ZeroGradient(Predictor):
    """See :func:`zero_gradient`."""

    def bind(self, inner: optax.GradientTransformationExtraArgs) -> "ZeroGradient":
        """Remembers the transform that is to be rolled out."""
        return ZeroGradient(Hyperparameters(inner=inner))

    def init(self, params: Params) -> PyTree:
        """Whether an update was made (bool, shape ``()``), and which parameters are covered."""
        return jnp.zeros([], jnp.bool_), Coverage(params)

    def observe(self, memory: PyTree, updates: Updates) -> PyTree:
        """Notes that an update was made."""
        del updates
        _, coverage = memory
        return jnp.ones([], jnp.bool_), coverage

    def predict(self, memory: PyTree, inner_state: OptState, params: Params, s: Any) -> Updates:
        """Σ_k U(0, S_{t+k}, θ_{t+k}) over s steps, linear in between."""
        started, coverage = memory
        displacement = self._roll_out(inner_state, coverage.select(params), s)
        return jax.tree.map(lambda d: jnp.where(started, d, jnp.zeros_like(d)), displacement)

    def _roll_out(self, inner_state: OptState, params: Params, s: Any) -> Updates:
        zeros = optax.tree.zeros_like(params)

        def step(carry: Any, weight: Any = 1.0) -> Any:
            displacement, state, theta = carry
            updates, state = self._update(zeros, state, theta)
            updates = optax.tree.cast_like(updates, theta)
            displacement = optax.tree.add(displacement, scaled(weight, updates))
            return displacement, state, optax.apply_updates(theta, updates)

        carry = (zeros, inner_state, params)
        if isinstance(s, float | int):
            for _ in range(math.floor(s)):  # unrolled: horizons are short and XLA fuses the steps
                carry = step(carry)
            fraction = s - math.floor(s)
            return step(carry, fraction)[0] if fraction else carry[0]
        whole = jnp.floor(s).astype(jnp.int32)
        carry = jax.lax.fori_loop(0, whole, lambda _, c: step(c), carry)
        return step(carry, s - jnp.floor(s))[0]

    def _update(self, grads: Updates, state: OptState, params: Params) -> tuple[Updates, OptState]:
        try:
            with jax.numpy_dtype_promotion("standard"):
                return self.hyperparameters["inner"].update(grads, state, params)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "zero_gradient() does not fit this inner transform: its update cannot be called"
                f" without extra arguments ({error}). Use last_update() instead."
            ) from error


def zero_gradient() -> Predictor:
    r"""Predicts by asking the optimizer itself: what would it do if the next gradients were zero?

    .. math::
        \hat\theta_{t+s} - \theta_t = \sum_{k=0}^{s-1} U(0, S_{t+k}, \theta_{t+k})

    Learning-rate schedules, bias corrections and weight decay of steps t+1 … t+s are all accounted
    for. Fractional s interpolates linearly. For SGDM with s = 1 this is Nesterov's method. Costs no
    memory, and s extra (cheap) inner updates per prediction.

    Transforms whose update requires extra arguments (a loss value, say) cannot be rolled out.
    ``optax.inject_hyperparams`` goes *inside* ``with_weight_prediction`` with this predictor.

    Returns:
      A predictor whose memory is one boolean.

    Examples:
      >>> import jax.numpy as jnp, optax, xgrad_optax
      >>> lookahead_params, tx = xgrad_optax.with_weight_prediction(
      ...     optax.sgd(0.5, momentum=0.5), s=2, predictor=zero_gradient()
      ... )
      >>> params = jnp.array(1.0)
      >>> updates, state = tx.update(jnp.array(0.2), tx.init(params), params)
      >>> params = optax.apply_updates(params, updates)  # 0.9; then -0.05 and -0.025 of momentum
      >>> round(float(lookahead_params(params, state)), 6)
      0.825

    References:
      Nesterov's method as a look-ahead along the momentum: Sutskever et al., 2013, eq. 3-4; here
      for any transform.
    """
    return ZeroGradient(Hyperparameters(inner=None))


# --------------------------------------------------------------------------------------------------
# The closed forms
# --------------------------------------------------------------------------------------------------


class FromMoments(Predictor):
    """d_t = -γ r_t with the direction r_t read off the moments (:mod:`xgrad_optax._moments`).

    Its hyperparameters are the closed form (``family``), ``learning_rate``, and what the closed
    form needs besides the moments.
    """

    linear: ClassVar[bool] = True

    def check(self, inner_state: OptState) -> None:
        """There must be exactly one state with the moments, and a step count for a schedule."""
        self._moments(inner_state)
        self._learning_rate(inner_state)

    def predict(self, memory: PyTree, inner_state: OptState, params: Params, s: Any) -> Updates:
        """-s·γ·r_t."""
        del memory, params
        family, moments = self._family, self._moments(inner_state)
        extra = self.hyperparameters.as_dict()
        del extra["family"], extra["learning_rate"]
        direction = family.direction(moments, **extra)
        displacement = scaled(s, scaled(self._learning_rate(inner_state), direction, sign=-1))
        if not family.counts_steps:
            return displacement  # a momentum buffer starts at zero, so its direction does too
        started = moments.count > 0
        return jax.tree.map(lambda d: jnp.where(started, d, jnp.zeros_like(d)), displacement)

    @property
    def _family(self) -> _moments.Family:
        return self.hyperparameters["family"]

    def _moments(self, inner_state: OptState) -> Any:
        return self._the_only(inner_state, self._family.state_type)

    def _learning_rate(self, inner_state: OptState) -> Any:
        """γ of the next step: Optax schedules are read at the number of steps done."""
        learning_rate = self.hyperparameters["learning_rate"]
        if not callable(learning_rate):
            return learning_rate
        if self._family.counts_steps:
            return scheduled(learning_rate, self._moments(inner_state).count)
        count = self._the_only(inner_state, optax.ScaleByScheduleState).count
        return scheduled(learning_rate, count)

    def _the_only(self, inner_state: OptState, state_type: type) -> Any:
        found = find_states(inner_state, state_type)
        if len(found) != 1:
            raise ValueError(
                f"The predictor for {self._family.name} does not fit the inner transform: it"
                f" needs exactly one {state_type.__name__} in the inner state, found {len(found)};"
                f" the state holds {describe_states(inner_state)}. Use last_update() or"
                " zero_gradient(), which fit every transform."
            )
        return found[0].state


def _from_moments(
    family: _moments.Family, learning_rate: optax.ScalarOrSchedule, **hyperparameters: Any
) -> Predictor:
    return FromMoments(
        Hyperparameters(family=family, learning_rate=learning_rate, **hyperparameters)
    )


def sgdm(learning_rate: optax.ScalarOrSchedule) -> Predictor:
    r"""SGD with momentum, :math:`d_t = -\gamma v_t` (XGrad, arXiv 2305.18240, table 1).

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.

    Returns:
      A predictor without memory, for ``optax.sgd(learning_rate, momentum)``.

    Examples:
      >>> import jax.numpy as jnp, optax, xgrad_optax
      >>> lookahead_params, tx = xgrad_optax.with_weight_prediction(
      ...     optax.sgd(0.5, momentum=0.9), s=1, predictor=sgdm(0.5)
      ... )
      >>> params = jnp.array(1.0)
      >>> updates, state = tx.update(jnp.array(0.2), tx.init(params), params)
      >>> round(float(lookahead_params(params + updates, state)), 6)
      0.8
    """
    return _from_moments(_moments.SGDM, learning_rate)


def rmsprop(momentum: jax.typing.ArrayLike | None = None) -> Predictor:
    r"""RMSprop: :math:`d_t = u_t`, read off the momentum buffer if there is one.

    Optax's RMSprop has the learning rate inside its momentum buffer, so none is needed here. (The
    papers' form has it outside; the two differ only where the learning rate changes.)

    Args:
      momentum: the momentum that the inner optimizer was given.

    Returns:
      Without momentum :func:`last_update`, which remembers one tree like the parameters: the
      update cannot be recovered from v_t alone. With momentum a predictor without memory.
    """
    if momentum is None:
        return last_update()
    return _from_moments(_moments.RMSPROP_MOMENTUM, 1.0)


def adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
) -> Predictor:
    r"""Adam, AdamW, NAdam, Yogi: :math:`d_t = -\gamma \hat m_t / (\sqrt{\hat v_t} + \varepsilon)`.

    Decoupled weight decay is not predicted; arXiv 2302.00195 (eq. 7) drops it as negligible.

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment.
      eps: added outside the root.
      eps_root: added inside the root.

    Returns:
      A predictor without memory.

    Examples:
      >>> import jax.numpy as jnp, optax, xgrad_optax
      >>> lookahead_params, tx = xgrad_optax.with_weight_prediction(
      ...     optax.adamw(0.1), s=1, predictor=adam(0.1)
      ... )
      >>> params = jnp.array(1.0)
      >>> updates, state = tx.update(jnp.array(3.0), tx.init(params), params)
      >>> round(float(lookahead_params(params, state)), 4)  # m̂/√v̂ = sign(g) after one step
      0.9
    """
    return _from_moments(_moments.ADAM, learning_rate, b1=b1, b2=b2, eps=eps, eps_root=eps_root)


def adabelief(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-16,
) -> Predictor:
    r"""AdaBelief: :math:`d_t = -\gamma \hat m_t / (\sqrt{\hat s_t} + \varepsilon)`.

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment of g - m.
      eps: added outside the root; what Optax adds inside is in the state already.

    Returns:
      A predictor without memory (XGrad, arXiv 2305.18240, table 1).
    """
    return _from_moments(_moments.ADABELIEF, learning_rate, b1=b1, b2=b2, eps=eps)


def adam3(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
) -> Predictor:
    r"""AdaM³: :math:`d_t = -\gamma \hat m_t / \sqrt{\hat v_t}` (XGrad, arXiv 2305.18240, table 1).

    Args:
      learning_rate: the γ that the inner optimizer was given; schedules are read at the next step.
      b1: decay rate of the first moment.
      b2: decay rate of the second moment of m.

    Returns:
      A predictor without memory.
    """
    return _from_moments(_moments.ADAM3, learning_rate, b1=b1, b2=b2)


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
    return _from_moments(
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
    return _from_moments(_moments.LION, learning_rate)


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
    return _from_moments(
        _moments.ADABOUND,
        learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        final_scale=final_scale,
        gamma=gamma,
    )


def scaled(scalar: Any, tree: Updates, *, sign: int = 1) -> Updates:
    """``sign * scalar * tree`` without changing the dtype of any leaf."""
    return jax.tree.map(lambda x: jnp.asarray(sign * scalar, dtype=x.dtype) * x, tree)
