"""The optimizers that must work with weight prediction, and the train loops that try them.

Adding an optimizer to the contract suite means adding one row to ``OPTIMIZERS``. A row also lists
what the optimizer *itself* cannot do; ``test_contract.py`` checks that it really cannot, so that
the list does not outlive the limitation.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

import xgrad_optax
from xgrad_optax import WeightPrediction, base_params, predictors, transforms

S = 1.5  # the horizon of most tests: neither 0 nor 1 nor a whole number
STEPS = 5

# --------------------------------------------------------------------------------------------------
# The problem: a separable quadratic ½ Σ c |p - target|² over any tree
# --------------------------------------------------------------------------------------------------


def loss(params):
    """A real float32 scalar for any tree of parameters, complex ones included."""
    return sum(
        (
            jnp.sum(0.5 * curvature * jnp.abs(p - target) ** 2).astype(jnp.float32)
            for p, curvature, target in _terms(params)
        ),
        jnp.float32(0),
    )


def gradient(params):
    """Far from zero near ``small_params()``, so that no sign depends on rounding."""
    grads = [curvature.astype(p.dtype) * (p - target) for p, curvature, target in _terms(params)]
    return jax.tree.unflatten(jax.tree.structure(params), grads)


def _terms(params):
    for p in jax.tree.leaves(params):
        ramp = np.linspace(0, 1, p.size).reshape(p.shape)
        curvature = jnp.asarray(0.5 + ramp, jnp.real(p).dtype)
        target = jnp.asarray(2.5 + ramp, p.dtype)
        yield p, curvature, target


def small_params():
    """Fresh arrays at each call: a matrix for what needs one, and a vector."""
    return {
        "w": jnp.linspace(-1.0, 1.0, 12, dtype=jnp.float32).reshape(4, 3),
        "b": jnp.array([0.1, -0.2, 0.3], jnp.float32),
    }


# --------------------------------------------------------------------------------------------------
# Trees of parameters, as types
# --------------------------------------------------------------------------------------------------


class Container(NamedTuple):
    w: Any
    nothing: Any
    items: Any
    scalar: Any


def struct(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def matrix_and_vector(dtype, other_dtype=None):
    return {"w": struct(4, 3, dtype=dtype), "b": struct(3, dtype=other_dtype or dtype)}


TREES = {
    "float16": matrix_and_vector(jnp.float16),
    "bfloat16": matrix_and_vector(jnp.bfloat16),
    "float32": matrix_and_vector(jnp.float32),
    "float64": matrix_and_vector(jnp.float64),
    "complex64": matrix_and_vector(jnp.complex64),
    "mixed_dtypes": matrix_and_vector(jnp.float32, jnp.bfloat16),
    "containers": Container(struct(4, 3), None, [struct(2), {}, (struct(1),)], struct()),
    "one_array": struct(3),
    "one_scalar": struct(),
    "no_leaves": {"nothing": {}},
}


# --------------------------------------------------------------------------------------------------
# Train loops
# --------------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """Where a train loop is: the base parameters θ and the predicted ones θ̂."""

    base: Any
    predicted: Any


@dataclasses.dataclass(frozen=True)
class Loop:
    """How a train step uses a transform.

    Attributes:
      tx: the transform; Optax wrappers may be around it.
      locate: ``(params, state) -> Point``, the gradient is taken at its ``predicted``.
      optimizer: the row of the table, for its extra arguments.
    """

    tx: Any
    locate: Callable[[Any, Any], Point]
    optimizer: "Optimizer"

    def around(self, wrap: Callable[[Any], Any]) -> "Loop":
        """The same loop with the transform ``wrap(tx)``, a wrapper of Optax."""
        return dataclasses.replace(self, tx=relaxed(wrap(self.tx)))

    def step(self, params, state, weight=1.0):
        """One train step, with a gradient of the given weight: ``(params, state, updates)``."""
        return self.step_from(self.locate(params, state).predicted, params, state, weight)

    def step_from(self, point, params, state, weight=1.0):
        """The same with the gradient at ``point``."""
        grads = gradient(point)
        extra_args = self.optimizer.extra_args(point, grads)
        grads = self.optimizer.batch(
            jax.tree.map(lambda g: g * jnp.asarray(weight, g.dtype), grads)
        )
        updates, state = self.tx.update(grads, state, params, **extra_args)
        with jax.numpy_dtype_promotion("standard"):
            return optax.apply_updates(params, updates), state, updates

    def train(self, params, state, weights=(1.0,) * STEPS):
        """One step for each weight: ``((params, state), (points, updates) after each step)``."""

        def body(carry, weight):
            params, state, updates = self.step(*carry, weight)
            return (params, state), (self.locate(params, state), updates)

        return jax.lax.scan(body, (params, state), jnp.array(weights, jnp.float32))


def plain(optimizer: "Optimizer", s: Any = 0) -> Loop:
    """The optimizer itself, which predicts nothing."""
    del s
    tx = relaxed(optimizer.plain())
    return Loop(tx, lambda params, state: Point(params, params), optimizer)


def explicit(optimizer: "Optimizer", s: Any = S) -> Loop:
    """The train step holds θ."""
    tx = optimizer.predicted(s).tx
    return Loop(tx, lambda p, state: Point(p, xgrad_optax.lookahead_params(p, state)), optimizer)


def drop_in(optimizer: "Optimizer", s: Any = S) -> Loop:
    """The train step holds θ̂."""
    tx = xgrad_optax.xgrad(optimizer.plain(), s, predictor=optimizer.predictor)
    return Loop(tx, lambda p, state: Point(base_params(p, state), p), optimizer)


def in_place(optimizer: "Optimizer", s: Any = S) -> Loop:
    """The train step holds θ̂, and the state is the inner optimizer's."""
    tx = xgrad_optax.in_place(optimizer.predicted(s))
    return Loop(tx, lambda p, state: Point(base_params(p, state), p), optimizer)


FORMS = {"explicit": explicit, "drop-in": drop_in}  # of every optimizer
ALL_FORMS = {**FORMS, "in-place": in_place}


def relaxed(tx: Any) -> optax.GradientTransformationExtraArgs:
    """A transform of Optax alone, with the standard promotion that Optax relies on."""

    def standard(function):
        def call(*args, **kwargs):
            with jax.numpy_dtype_promotion("standard"):
                return function(*args, **kwargs)

        return call

    return optax.GradientTransformationExtraArgs(standard(tx.init), standard(tx.update))


# --------------------------------------------------------------------------------------------------
# The rows
# --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Optimizer:
    """One row of the table.

    Attributes:
      name: how tests call it.
      make: builds the plain optimizer.
      extra_args: ``(point, grads) -> dict`` of the extra arguments that its update requires.
      batch: turns a gradient into what its update takes.
      limits: what the *plain* optimizer cannot do, as contract -> reason.
      named: where the explicit form is a named optimizer of this library.
      predictor: of the drop-in form, and of the explicit form where ``named`` is None.
      unstable: trees for which the plain optimizer's state does not keep its types.
    """

    name: str
    make: Callable[[], optax.GradientTransformation]
    extra_args: Callable[[Any, Any], dict[str, Any]] = lambda point, grads: {}
    batch: Callable[[Any], Any] = lambda grads: grads
    limits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    named: "Named | None" = None
    predictor: predictors.Predictor | None = None
    unstable: frozenset[str] = frozenset()

    @property
    def forms(self) -> tuple[str, ...]:
        """The columns of the table in which this row has to work."""
        has_closed_form = self.predictor is not None and self.predictor.in_place
        return tuple(ALL_FORMS) if has_closed_form else tuple(FORMS)

    def plain(self) -> optax.GradientTransformationExtraArgs:
        with jax.numpy_dtype_promotion("standard"):
            return optax.with_extra_args_support(self.make())

    def predicted(self, s: Any) -> WeightPrediction:
        if self.named is not None:
            return self.named.predicted(self.named.rate, s)
        return xgrad_optax.with_weight_prediction(self.plain(), s, predictor=self.predictor)


def value(point, grads):
    del grads
    return {"value": loss(point)}


def objective(point, grads):
    del point, grads
    return {"obj_fn": loss}


def two_examples(grads):
    """A batch of two gradients whose mean is ``grads``, on a new leading axis."""
    return jax.tree.map(lambda g: jnp.stack([g * 0.5, g * 1.5]), grads)


RATE = 1e-2

# Names of contracts and trees are those of test_contract.py.
CLIPS = {"complex64": "clips, and complex numbers have no order"}
ALIASES = {"donation": "its initial state holds the parameters themselves"}
LOOKS_AT_LEAVES = {"no_leaves": "takes the first leaf, or folds over leaves without a start"}
MIXED = frozenset({"mixed_dtypes"})  # scalars that start in the lowest dtype, end in the highest

FROM_OPTAX = (
    Optimizer("adabelief", lambda: optax.adabelief(RATE)),
    Optimizer("adadelta", lambda: optax.adadelta(RATE)),
    Optimizer("adafactor", lambda: optax.adafactor(RATE)),
    Optimizer(
        "adafactor_factored",
        lambda: optax.adafactor(RATE, min_dim_size_to_factor=2, momentum=0.9),
        limits={"complex64": "casts complex numbers to real ones"},
    ),
    Optimizer("adagrad", lambda: optax.adagrad(RATE)),
    Optimizer("adam", lambda: optax.adam(RATE)),
    Optimizer("adamax", lambda: optax.adamax(RATE)),
    Optimizer("adamaxw", lambda: optax.adamaxw(RATE)),
    Optimizer("adamw", lambda: optax.adamw(RATE)),
    Optimizer("adan", lambda: optax.adan(RATE)),
    Optimizer("amsgrad", lambda: optax.amsgrad(RATE)),
    Optimizer("fromage", lambda: optax.fromage(RATE)),
    Optimizer("lamb", lambda: optax.lamb(RATE)),
    Optimizer("lars", lambda: optax.lars(RATE)),
    Optimizer(
        "lbfgs",
        lambda: optax.lbfgs(RATE, memory_size=2, linesearch=None),
        limits=ALIASES,
    ),
    Optimizer("lion", lambda: optax.lion(RATE)),
    Optimizer("nadam", lambda: optax.nadam(RATE)),
    Optimizer("nadamw", lambda: optax.nadamw(RATE)),
    Optimizer("noisy_sgd", lambda: optax.noisy_sgd(RATE, key=0)),
    Optimizer("novograd", lambda: optax.novograd(RATE)),
    Optimizer("optimistic_adam_v2", lambda: optax.optimistic_adam_v2(RATE)),
    Optimizer("optimistic_gradient_descent", lambda: optax.optimistic_gradient_descent(RATE)),
    Optimizer("polyak_sgd", lambda: optax.polyak_sgd(0.1), extra_args=value),
    Optimizer("radam", lambda: optax.radam(RATE)),
    Optimizer("rmsprop", lambda: optax.rmsprop(RATE)),
    Optimizer("rmsprop_centered", lambda: optax.rmsprop(RATE, centered=True)),
    Optimizer("rmsprop_momentum", lambda: optax.rmsprop(RATE, momentum=0.9)),
    Optimizer("rprop", lambda: optax.rprop(RATE), limits=CLIPS),
    Optimizer("sgd", lambda: optax.sgd(RATE)),
    Optimizer("sgd_momentum", lambda: optax.sgd(RATE, momentum=0.9)),
    Optimizer("sgd_nesterov", lambda: optax.sgd(RATE, momentum=0.9, nesterov=True)),
    Optimizer("sign_sgd", lambda: optax.sign_sgd(RATE)),
    Optimizer("signum", lambda: optax.signum(RATE)),
    Optimizer(
        "sm3",
        lambda: optax.sm3(RATE),
        limits={
            "complex64": "refuses them",
            "map_params": "its `init` needs shapes",
            "containers": "needs vectors at least",
            "one_scalar": "needs vectors at least",
        },
    ),
    Optimizer("yogi", lambda: optax.yogi(RATE)),
)

# Not here: `sam`, which asks for gradients at points of its own choice, as prediction does.
FROM_OPTAX_CONTRIB = (
    Optimizer("acprop", lambda: contrib.acprop(RATE)),
    Optimizer("ademamix", lambda: contrib.ademamix(RATE)),
    Optimizer("adopt", lambda: contrib.adopt(RATE), limits=CLIPS),
    Optimizer("cocob", lambda: contrib.cocob(), limits=ALIASES),
    Optimizer("dadapt_adamw", lambda: contrib.dadapt_adamw(0.1), unstable=MIXED),
    Optimizer("dog", lambda: contrib.dog(1.0), limits=ALIASES, unstable=MIXED),
    Optimizer("dowg", lambda: contrib.dowg(1.0), limits=ALIASES, unstable=MIXED),
    Optimizer(
        "dpsgd",  # spelled out: `contrib.dpsgd` itself uses a deprecated argument of its parts
        lambda: optax.chain(
            contrib.differentially_private_aggregate(10.0, 0.01, key=0), optax.sgd(RATE)
        ),
        batch=two_examples,
        limits=LOOKS_AT_LEAVES | {"multi_steps": "accumulates means, not batches"},
    ),
    Optimizer(
        "galore",
        lambda: contrib.galore(RATE, rank=2),
        limits={
            "complex64": "casts complex numbers to real ones",
            "containers": "does not expect None",
            "no_leaves": "does not expect trees without leaves",
        },
    ),
    Optimizer(
        "madgrad",
        lambda: contrib.madgrad(RATE),
        limits=ALIASES | {"complex64": "takes a cube root"},
    ),
    Optimizer(
        "mechanize",
        lambda: contrib.mechanize(optax.sgd(0.1)),
        limits=ALIASES | {"mixed_dtypes": "clips with bounds of another dtype"},
    ),
    Optimizer("momo", lambda: contrib.momo(0.1), extra_args=value, unstable=MIXED),
    Optimizer("momo_adam", lambda: contrib.momo_adam(0.1), extra_args=value, unstable=MIXED),
    Optimizer("muon", lambda: contrib.muon(RATE), limits={"map_params": "its `init` needs shapes"}),
    Optimizer("prodigy", lambda: contrib.prodigy(0.1), limits=ALIASES, unstable=MIXED),
    Optimizer(
        "reduce_on_plateau",
        lambda: optax.chain(optax.sgd(RATE), contrib.reduce_on_plateau()),
        extra_args=value,
    ),
    Optimizer("schedule_free_adamw", lambda: contrib.schedule_free_adamw(RATE, warmup_steps=3)),
    Optimizer("schedule_free_sgd", lambda: contrib.schedule_free_sgd(RATE)),
    Optimizer("simplified_ademamix", lambda: contrib.simplified_ademamix(RATE)),
    Optimizer(
        "sophia",
        lambda: contrib.sophia(RATE),
        extra_args=objective,
        limits=CLIPS | LOOKS_AT_LEAVES | {"mixed_dtypes": "draws probes of one dtype"},
    ),
)

PLAIN_OF_THIS_LIBRARY = (
    Optimizer("plain_adam3", lambda: transforms.adam3(RATE)),
    Optimizer("plain_adabound", lambda: transforms.adabound(RATE)),
)

WITH_ZERO_GRADIENT = (
    Optimizer(
        "zero_gradient_sgd_momentum",
        lambda: optax.sgd(RATE, momentum=0.9),
        predictor=predictors.zero_gradient(),
    ),
    Optimizer(
        "zero_gradient_adamw", lambda: optax.adamw(RATE), predictor=predictors.zero_gradient()
    ),
)


@dataclasses.dataclass(frozen=True)
class Named:
    """An optimizer of this library, its namesake, and the closed form that it predicts with."""

    name: str
    namesake: Callable[[Any], optax.GradientTransformation]
    predicted: Callable[[Any, Any], WeightPrediction]
    predictor: Callable[[Any], predictors.Predictor]
    rate: Any = RATE

    def row(self) -> Optimizer:
        return Optimizer(
            f"named_{self.name}",
            lambda: self.namesake(self.rate),
            named=self,
            predictor=self.predictor(self.rate),
        )

    def with_rate(self, rate: Any) -> Optimizer:
        return dataclasses.replace(self, rate=rate).row()


NAMED = (
    Named(
        "sgdm",
        lambda rate: optax.sgd(rate, momentum=0.9),
        lambda rate, s: xgrad_optax.sgdm(rate, s=s),
        predictors.sgdm,
    ),
    Named(
        "rmsprop",
        optax.rmsprop,
        lambda rate, s: xgrad_optax.rmsprop(rate, s=s),
        lambda rate: predictors.rmsprop(),
    ),
    Named(
        "rmsprop_momentum",
        lambda rate: optax.rmsprop(rate, momentum=0.9),
        lambda rate, s: xgrad_optax.rmsprop(rate, s=s, momentum=0.9),
        lambda rate: predictors.rmsprop(momentum=0.9),
    ),
    Named(
        "sgdm_damped",
        lambda rate: optax.sgd(rate, momentum=0.9),
        lambda rate, s: xgrad_optax.sgdm(rate, s=s, damped=True),
        lambda rate: predictors.sgdm(rate, momentum=0.9, damped=True),
    ),
    Named(
        "adamw_damped",
        optax.adamw,
        lambda rate, s: xgrad_optax.adamw(rate, s=s, damped=True),
        lambda rate: predictors.adam(rate, damped=True),
    ),
    Named("adam", optax.adam, lambda rate, s: xgrad_optax.adam(rate, s=s), predictors.adam),
    Named("adamw", optax.adamw, lambda rate, s: xgrad_optax.adamw(rate, s=s), predictors.adam),
    Named(
        "adabelief",
        optax.adabelief,
        lambda rate, s: xgrad_optax.adabelief(rate, s=s),
        predictors.adabelief,
    ),
    Named(
        "adam3", transforms.adam3, lambda rate, s: xgrad_optax.adam3(rate, s=s), predictors.adam3
    ),
    Named("radam", optax.radam, lambda rate, s: xgrad_optax.radam(rate, s=s), predictors.radam),
    Named(
        "yogi",
        optax.yogi,
        lambda rate, s: xgrad_optax.yogi(rate, s=s),
        lambda rate: predictors.adam(rate, eps=1e-3),
    ),
    Named("nadam", optax.nadam, lambda rate, s: xgrad_optax.nadam(rate, s=s), predictors.adam),
    Named("lion", optax.lion, lambda rate, s: xgrad_optax.lion(rate, s=s), predictors.lion),
    Named(
        "adabound",
        transforms.adabound,
        lambda rate, s: xgrad_optax.adabound(rate, s=s),
        predictors.adabound,
    ),
)

NAMED_ROWS = tuple(named.row() for named in NAMED)

OPTIMIZERS = (
    *FROM_OPTAX,
    *FROM_OPTAX_CONTRIB,
    *PLAIN_OF_THIS_LIBRARY,
    *WITH_ZERO_GRADIENT,
    *NAMED_ROWS,
)
