"""What every optimizer must be able to do in both forms of weight prediction.

After ``optax/contrib/_common_test.py``, for each optimizer of Optax and each of this library. What
is expected comes from the plain optimizer, from the other form, or from arithmetic on the points of
a run. Where the table says that the plain optimizer cannot keep a contract, the test checks that.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.compilation import compilations, quick_compilation
from tests.optimizers_under_test import (
    FORMS,
    NAMED,
    NAMED_ROWS,
    OPTIMIZERS,
    STEPS,
    TREES,
    Loop,
    Optimizer,
    Point,
    S,
    drop_in,
    explicit,
    gradient,
    plain,
    relaxed,
    small_params,
)
from xgrad_optax import lookahead_params, predictors

MAKERS = {**FORMS, "plain": plain}
FORM = pytest.mark.parametrize("form", FORMS)
OPTIMIZER = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.name)
# One row for each optimizer, one column for each form.
OPTIMIZER_AND_FORM = pytest.mark.parametrize(
    ("optimizer", "form"),
    [pytest.param(o, form, id=f"{o.name}-{form}") for o in OPTIMIZERS for form in o.forms],
)


assert_close = functools.partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-5)
assert_bitwise_equal = functools.partial(chex.assert_trees_all_equal, strict=True)


def rolls_out(optimizer: Optimizer) -> bool:
    return optimizer.predictor == predictors.zero_gradient()


def contract(name: str, optimizer: Optimizer, form: str, check):
    """Checks a form; or, where the plain optimizer cannot keep the contract, that it cannot."""
    if name not in optimizer.limits:
        check(form)
        if optimizer.name == "adam":
            check("plain")  # it can be passed: what fails it below fails for a reason
        return
    try:
        check("plain")
    except Exception:
        return
    pytest.fail(f"{optimizer.name} can do this now: remove {name!r} from its limits in the table")


# --------------------------------------------------------------------------------------------------
# Structures, shapes and dtypes: nothing is compiled
# --------------------------------------------------------------------------------------------------


def avals(tree):
    """Everything that must not change: structure, shapes, dtypes and weak types."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    described = [
        (jax.tree_util.keystr(k), x.shape, str(x.dtype), getattr(x, "weak_type", False))
        for k, x in leaves
    ]
    return described, structure


class TracedStep(NamedTuple):
    """One train step from the initial state, as shapes and dtypes."""

    before: Any
    after: Any
    updates: Any
    predicted: Any


def trace_step(loop: Loop, tree_name: str) -> TracedStep:
    def step(params, state):
        predicted = loop.locate(params, state).predicted
        return predicted, *loop.step_from(predicted, params, state)[1:]

    params = TREES[tree_name]
    with jax.enable_x64(tree_name == "float64"):
        before = jax.eval_shape(loop.tx.init, params)
        predicted, after, updates = jax.eval_shape(step, params, before)
    return TracedStep(before, after, updates, predicted)


@functools.cache
def trace_plain_step(optimizer: Optimizer, tree_name: str) -> TracedStep:
    return trace_step(plain(optimizer), tree_name)


@pytest.mark.parametrize("tree_name", TREES)
@OPTIMIZER_AND_FORM
def test_types_and_structures_are_stable(optimizer, form, tree_name):
    """The inner state is what the plain optimizer makes of it, our part of the state is stable."""

    def check(form):
        reference = trace_plain_step(optimizer, tree_name)
        if form == "plain":
            return
        traced = trace_step(MAKERS[form](optimizer), tree_name)
        assert avals(traced.before.inner_state) == avals(reference.before)
        assert avals(traced.after.inner_state) == avals(reference.after)
        ours_before, ours_after = (
            s._replace(inner_state=()) for s in (traced.before, traced.after)
        )
        assert avals(ours_after) == avals(ours_before)
        assert avals(traced.predicted) == avals(TREES[tree_name])
        expected_updates = reference.updates if form == "explicit" else TREES[tree_name]
        assert avals(traced.updates) == avals(expected_updates)

    contract(tree_name, optimizer, form, check)


@OPTIMIZER
def test_table_lists_the_unstable_states_of_plain_optimizers(optimizer):
    unstable = set()
    for tree_name in TREES.keys() - optimizer.limits.keys():
        traced = trace_plain_step(optimizer, tree_name)
        if avals(traced.after) != avals(traced.before):
            unstable.add(tree_name)
    assert unstable == optimizer.unstable - optimizer.limits.keys()


@OPTIMIZER_AND_FORM
def test_eval_shape_of_init_is_init(optimizer, form):
    init = MAKERS[form](optimizer).tx.init
    assert avals(jax.eval_shape(init, TREES["float32"])) == avals(init(small_params()))


@OPTIMIZER_AND_FORM
def test_nothing_is_predicted_before_the_first_update(optimizer, form):
    loop, params = MAKERS[form](optimizer), small_params()
    assert_bitwise_equal(loop.locate(params, loop.tx.init(params)), Point(params, params))


@OPTIMIZER_AND_FORM
def test_map_params_tells_parameters_from_the_rest(optimizer, form):
    def labelled(form):
        loop = MAKERS[form](optimizer)
        state = jax.eval_shape(loop.tx.init, small_params())
        with jax.numpy_dtype_promotion("standard"):
            return optax.tree.map_params(
                loop.tx,
                lambda leaf, param: "like a parameter" if leaf.shape == param.shape else "wrong",
                state,
                small_params(),
                transform_non_params=lambda leaf: "other",
            )

    def check(form):
        state = labelled(form)
        if form == "plain":
            return
        assert state.inner_state == labelled("plain")
        ours = state._replace(inner_state=())
        # zero_gradient() remembers whether an update was made.
        expected = {"like a parameter", "other"} if rolls_out(optimizer) else {"like a parameter"}
        assert set(jax.tree.leaves(ours)) <= expected

    contract("map_params", optimizer, form, check)


@OPTIMIZER_AND_FORM
def test_unknown_extra_args_are_ignored(optimizer, form):
    def check(form):
        loop = MAKERS[form](optimizer)
        params = TREES["float32"]
        state = jax.eval_shape(loop.tx.init, params)

        def step(params, state):
            grads = gradient(params)
            extra_args = optimizer.extra_args(params, grads) | {"unknown_to_the_optimizer": 1}
            return loop.tx.update(optimizer.batch(grads), state, params, **extra_args)

        jax.eval_shape(step, params, state)

    contract("unknown_extra_args", optimizer, form, check)


NEEDS_EXTRA_ARGS = [o for o in OPTIMIZERS if o.extra_args(jnp.ones(1), jnp.ones(1))]


@FORM
@pytest.mark.parametrize("optimizer", NEEDS_EXTRA_ARGS, ids=lambda o: o.name)
def test_missing_extra_args_are_missed_by_the_plain_optimizer_itself(optimizer, form):
    errors = []
    for maker in (plain, FORMS[form]):
        tx, params = maker(optimizer).tx, TREES["float32"]
        state = jax.eval_shape(tx.init, params)
        with pytest.raises((TypeError, ValueError)) as error:
            jax.eval_shape(tx.update, params, state, params)
        errors.append(error)
    assert errors[0].type is errors[1].type
    assert str(errors[0].value) == str(errors[1].value)


# --------------------------------------------------------------------------------------------------
# Runs: one program for each optimizer, in which all of its forms train, shared by the tests below
# --------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """A train loop of a program: what it starts from, and how it goes on.

    Attributes:
      init: makes its state from parameters.
      train: ``(params, state) -> ((params, state), points)``, θ and θ̂ after each step.
    """

    init: Any
    train: Any


def run_of(loop: Loop, weights=(1.0,) * STEPS) -> Run:
    def train(params, state):
        carry, (points, _) = loop.train(params, state, weights)
        return carry, points

    return Run(loop.tx.init, train)


def accumulating_run(optimizer: Optimizer, form: str) -> Run:
    """Two micro-steps for each step; their gradients differ and have the mean of ``run_of``."""
    loop = MAKERS[form](optimizer).around(lambda tx: optax.MultiSteps(tx, 2))
    return run_of(loop, (1.25, 0.75) * STEPS)


def injected(optimizer: Optimizer, form: str):
    """``inject_hyperparams`` around a form: of s, and of a named optimizer's learning rate."""
    if optimizer.named is None:
        return optax.inject_hyperparams(lambda s: MAKERS[form](optimizer, s).tx)(s=1.0)
    return optax.inject_hyperparams(
        lambda learning_rate, s: MAKERS[form](optimizer.named.with_rate(learning_rate), s).tx
    )(learning_rate=optimizer.named.rate, s=1.0)


def injected_run(optimizer: Optimizer, form: str) -> Run:
    """Two horizons at once under ``vmap``: S and 0, and it goes on with S."""
    tx = relaxed(injected(optimizer, form))
    loop = run_of(Loop(tx, MAKERS[form](optimizer).locate, optimizer))

    def train(params, state):
        def with_horizon(s):
            return loop.train(params, state._replace(hyperparams=state.hyperparams | {"s": s}))

        horizons = state.hyperparams["s"] * jnp.array([S, 0.0])  # it is 1
        carry, points = jax.vmap(with_horizon)(horizons)
        return jax.tree.map(lambda x: x[0], carry), points

    return Run(tx.init, train)


RUNS = {
    "itself": lambda optimizer, form: run_of(MAKERS[form](optimizer)),
    "accumulating": accumulating_run,
    "injected": injected_run,
}


class Program(NamedTuple):
    """Two calls of one compiled program, the first directly after ``init``.

    Attributes:
      points: of the first call, by kind of run and form.
      compilations: what the second call had to compile.
      survivors: arrays among the arguments of the first call that were not donated.
    """

    points: dict[tuple[str, str], Point]
    compilations: list[str]
    survivors: dict[tuple[str, str], list[jax.Array]]

    def of(self, kind: str) -> dict[str, Point]:
        """The points of one kind of run, by form: at least one."""
        found = {form: points for (k, form), points in self.points.items() if k == kind}
        assert found
        return found


def compiled(runs: dict[tuple[str, str], Run], donate: bool) -> Program:
    def train(start):
        return [run.train(*s) for run, s in zip(runs.values(), start, strict=True)]

    program = jax.jit(train, donate_argnums=0 if donate else ())
    start = [(params := small_params(), run.init(params)) for run in runs.values()]
    with quick_compilation():
        results = program(start)
    survivors = [[x for x in jax.tree.leaves(s) if not x.is_deleted()] for s in start]
    with compilations() as events:
        program([carry for carry, _ in results])
    points = [points for _, points in results]
    return Program(
        dict(zip(runs, points, strict=True)), events, dict(zip(runs, survivors, strict=True))
    )


class Step(NamedTuple):
    """One call of ``tx.update``: what it was given and what it returned."""

    grads: Any
    state: Any
    params: Any
    updates: Any
    next_state: Any


def compiled_update(loop: Loop):
    """The update with nothing else in its program, and compiled as for users.

    In one program with θ + u, XLA may turn the last product in u and this sum into one fused
    multiply-add, which rounds once: another trajectory for the very same update.
    """

    @jax.jit
    def update(grads, state, params):
        extra_args = loop.optimizer.extra_args(params, grads)
        return loop.tx.update(loop.optimizer.batch(grads), state, params, **extra_args)

    return update


def update_by_update(loop: Loop) -> list[Step]:
    update = compiled_update(loop)
    params = small_params()
    state = loop.tx.init(params)
    steps = []
    for _ in range(STEPS):
        grads = gradient(loop.locate(params, state).predicted)
        updates, next_state = update(grads, state, params)
        steps.append(Step(grads, state, params, updates, next_state))
        with jax.numpy_dtype_promotion("standard"):
            params, state = optax.apply_updates(params, updates), next_state
    return steps


class Subject:
    """One optimizer and what is compiled for it.

    Programs that must agree bit for bit are compiled one by one: within one program XLA would see
    that they do the same.
    """

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        self.plain_steps = functools.cache(lambda: update_by_update(plain(optimizer)))
        self.program = functools.cache(self._program)

    def _program(self, kinds: tuple[str, ...], form: str) -> Program:
        """A form's runs; or all kinds of all forms, each but those that the row cannot do."""
        if form == "plain":
            keys = [(kind, form) for kind in kinds]
        else:
            keys = [("itself", form) for form in self.optimizer.forms]
            if "multi_steps" not in self.optimizer.limits:
                keys += [("accumulating", form) for form in self._forms(default="drop-in")]
            keys += [("injected", form) for form in self._forms(default="explicit")]
            if rolls_out(self.optimizer):
                keys.remove(("injected", "explicit"))  # it is refused
        runs = {(kind, form): RUNS[kind](self.optimizer, form) for kind, form in keys}
        return compiled(runs, form == "plain" or "donation" not in self.optimizer.limits)

    def _forms(self, default: str):
        """Every form for predictions that are an optimizer's own, one for the default prediction.

        What the default prediction does to an optimizer does not depend on it, and for all of them
        ``test_all_forms_follow_the_same_trajectory``.
        """
        return self.optimizer.forms if self.optimizer.predictor is not None else (default,)

    def points(self) -> dict[str, Point]:
        """θ and θ̂ after each step, by form."""
        return self.program((), "all").of("itself")

    def contract(self, name: str, kinds: tuple[str, ...], check):
        """Checks the program of all forms, or as :func:`contract` says."""
        contract(
            name,
            self.optimizer,
            "all",
            lambda form: check(self.program(kinds if form == "plain" else (), form)),
        )


@pytest.fixture(scope="module", params=OPTIMIZERS, ids=lambda o: o.name)
def subject(request):
    """Of module scope, so that pytest runs all tests of one optimizer before the next."""
    return Subject(request.param)


def test_second_call_compiles_nothing(subject):
    def check(program):
        assert program.compilations == []

    subject.contract("one_compilation", ("itself",), check)


def test_parameters_and_state_can_be_donated(subject):
    def check(program):
        assert not any(program.survivors.values())

    subject.contract("donation", ("itself",), check)


def test_all_forms_follow_the_same_trajectory(subject):
    points = subject.points()
    for found in points.values():
        assert_close(found, points["explicit"])
        distances = jax.tree.map(lambda b, q: np.abs(b - q).max(), *found)
        assert max(jax.tree.leaves(distances)) > 0  # else there is nothing to agree on


def test_default_predictor_repeats_the_last_update(subject):
    if subject.optimizer.predictor is not None:
        pytest.skip("arithmetic of the default predictor; test_trajectories.py has the others")
    for base, predicted in subject.points().values():
        expected = jax.tree.map(lambda b: b[1:] + S * (b[1:] - b[:-1]), base)
        assert_close(jax.tree.map(lambda q: q[1:], predicted), expected)


def test_prediction_inside_multi_steps_sees_averaged_gradients(subject):
    def check(program):
        for form, points in program.of("accumulating").items():
            waiting = jax.tree.map(lambda x: x[0::2], points)
            stepped = jax.tree.map(lambda x: x[1::2], points)
            assert_close(stepped, program.of("itself")[form])
            # θ̂ rests while gradients are collected, so all of them belong to one point.
            assert_bitwise_equal(
                jax.tree.map(lambda x: x[1:], waiting), jax.tree.map(lambda x: x[:-1], stepped)
            )

    subject.contract("multi_steps", ("itself", "accumulating"), check)


def test_injected_horizons_under_vmap(subject):
    """Two s at once, in one program: S is the run with S, 0 is the plain optimizer."""
    plain_params = [step.params for step in subject.plain_steps()[1:]]
    stacked = jax.tree.map(lambda *x: np.stack(x), *plain_params)

    def check(program):
        for form, points in program.of("injected").items():
            assert_close(jax.tree.map(lambda x: x[0], points), program.of("itself")[form])
            assert_close(jax.tree.map(lambda x: x[1, :-1], points), Point(stacked, stacked))

    subject.contract("vmap", ("itself", "injected"), check)


def test_zero_horizon_is_the_plain_optimizer_bit_for_bit(subject):
    steps = update_by_update(explicit(subject.optimizer, s=0))
    for actual, expected in zip(steps, subject.plain_steps(), strict=True):
        assert_bitwise_equal(actual.params, expected.params)
        assert_bitwise_equal(actual.updates, expected.updates)
        assert_bitwise_equal(actual.next_state.inner_state, expected.next_state)


def test_zero_horizon_of_the_drop_in_form_is_the_plain_optimizer_bit_for_bit(subject):
    """From any state of the plain optimizer; θ + u is part of this form's own program."""
    loop = drop_in(subject.optimizer, s=0)
    update, initial = compiled_update(loop), loop.tx.init(small_params())
    for step in subject.plain_steps():
        state = initial._replace(base_params=step.params, inner_state=step.state)
        updates, next_state = update(step.grads, state, step.params)
        assert_bitwise_equal(updates, step.updates)
        assert_bitwise_equal(next_state.inner_state, step.next_state)


@pytest.mark.parametrize("optimizer", [*filter(rolls_out, OPTIMIZERS)], ids=lambda o: o.name)
def test_injection_around_a_rollout_is_refused(optimizer):
    tx = relaxed(injected(optimizer, "explicit"))
    with pytest.raises(ValueError, match="Put inject_hyperparams inside"):
        lookahead_params(small_params(), tx.init(small_params()))


# --------------------------------------------------------------------------------------------------
# The named optimizers and their namesakes
# --------------------------------------------------------------------------------------------------

NAMED_ROW = pytest.mark.parametrize("optimizer", NAMED_ROWS, ids=lambda o: o.name)
REMEMBERS_THE_UPDATE = "named_rmsprop"  # v_t alone does not determine u_t


def three_steps(loop: Loop):
    """Parameters and state after three steps along gradients at θ, whatever the prediction."""
    program = jax.jit(dataclasses.replace(loop, locate=plain(loop.optimizer).locate).train)
    params = small_params()
    (params, state), (_, updates) = program(params, loop.tx.init(params), (1.0, -0.5, 2.0))
    return params, state, updates


@NAMED_ROW
def test_named_optimizer_adds_nothing_to_its_namesake(optimizer):
    """Neither to its updates nor to its state, from the same gradients."""
    _, state, updates = three_steps(explicit(optimizer))
    _, plain_state, plain_updates = three_steps(plain(optimizer))
    assert_bitwise_equal(updates, plain_updates)
    assert_bitwise_equal(state.inner_state, plain_state)
    added = jax.tree.leaves(state._replace(inner_state=()))
    if optimizer.name == REMEMBERS_THE_UPDATE:
        assert_bitwise_equal(state.memory, jax.tree.map(lambda u: u[-1], updates))
        assert len(added) == len(jax.tree.leaves(state.memory))
    else:
        assert added == []


@NAMED_ROW
def test_named_optimizer_goes_on_from_its_namesakes_state(optimizer):
    params, plain_state, _ = three_steps(plain(optimizer))
    _, state, _ = three_steps(explicit(optimizer))
    predict, tx = optimizer.predicted(S)
    grads = gradient(params)
    if optimizer.name == REMEMBERS_THE_UPDATE:
        with pytest.raises(ValueError, match="needs more than the inner optimizer's state"):
            tx.update(grads, plain_state, params)
        return
    assert_bitwise_equal(predict(params, plain_state), predict(params, state))
    updates, next_state = tx.update(grads, plain_state, params)
    expected_updates, expected_state = plain(optimizer).tx.update(grads, plain_state, params)
    assert_bitwise_equal(updates, expected_updates)
    assert_bitwise_equal(next_state.inner_state, expected_state)
    assert avals(next_state) == avals(state)


# --------------------------------------------------------------------------------------------------
# Horizons that change, from arithmetic: sgd(0.1) on a scalar, every gradient 1
# --------------------------------------------------------------------------------------------------


def follow(tx, locate, edits=(), steps=2):
    """θ and θ̂ before each step and after the last one; ``edits[k]`` changes the state after k."""
    params = jnp.array(1.0)
    state = tx.init(params)
    points = [locate(params, state)]
    for step in range(steps):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(jnp.array(1.0), state, params)
        params = params + updates
        points.append(locate(params, state))
        if step < len(edits):
            state = edits[step](state)
    return [(float(base), float(predicted)) for base, predicted in points]


def inject_into(state, **values):
    values = {name: jnp.asarray(value) for name, value in values.items()}
    return state._replace(hyperparams=state.hyperparams | values)


SGD = Optimizer("sgd", lambda: optax.sgd(0.1))


@FORM
def test_changed_horizon_takes_effect_with_the_next_update(form):
    locate = FORMS[form](SGD).locate
    tx = optax.inject_hyperparams(lambda s: FORMS[form](SGD, s).tx)(s=1.0)
    points = follow(tx, locate, edits=[lambda state: inject_into(state, s=3.0)])
    # The first update has s = 1: θ̂ = 0.9 - 0.1. The second one has s = 3: θ̂ = 0.8 - 3·0.1.
    np.testing.assert_allclose(points, [(1.0, 1.0), (0.9, 0.8), (0.8, 0.5)], rtol=1e-6)


def test_changed_horizon_leaves_the_present_prediction_alone():
    locate = explicit(SGD).locate
    tx = optax.inject_hyperparams(lambda s: explicit(SGD, s).tx)(s=1.0)
    params = jnp.array(1.0)
    with jax.numpy_dtype_promotion("standard"):
        _, state = tx.update(jnp.array(1.0), tx.init(params), params)
    before, after = (locate(params, s) for s in (state, inject_into(state, s=3.0)))
    assert_bitwise_equal(after, before)


@FORM
@pytest.mark.parametrize(
    "at_rate",
    [
        next(named for named in NAMED if named.name == "sgdm").with_rate,
        lambda rate: Optimizer("sgd_momentum", lambda: optax.sgd(rate, momentum=0.9)),
    ],
    ids=["named_sgdm", "sgd_momentum"],
)
def test_changed_learning_rate_and_horizon(form, at_rate):
    tx = optax.inject_hyperparams(
        lambda learning_rate, s: FORMS[form](at_rate(learning_rate), s).tx
    )(learning_rate=0.1, s=1.0)
    edits = [lambda state: inject_into(state, learning_rate=0.2, s=3.0)]
    points = follow(tx, FORMS[form](at_rate(0.1)).locate, edits)
    # v₁ = 1, v₂ = 1.9. First θ = 0.9, θ̂ = 0.9 - 0.1; then θ = 0.9 - 0.2·1.9, θ̂ = θ - 3·0.2·1.9.
    np.testing.assert_allclose(points, [(1.0, 1.0), (0.9, 0.8), (0.52, -0.62)], rtol=1e-5)


@FORM
def test_horizon_can_be_a_schedule_of_the_number_of_updates(form):
    loop = FORMS[form](SGD, optax.linear_schedule(1.0, 4.0, transition_steps=3))
    points = follow(loop.tx, loop.locate, steps=4)
    # s is 2, 3, 4, 4 after one, two, three, four updates.
    expected = [(1.0, 1.0), (0.9, 0.7), (0.8, 0.5), (0.7, 0.3), (0.6, 0.2)]
    np.testing.assert_allclose(points, expected, rtol=1e-5)


@FORM
def test_injected_schedule_of_the_horizon_is_read_before_the_update(form):
    """As ``inject_hyperparams`` does with every schedule: one update later than s=schedule."""
    locate = FORMS[form](SGD).locate
    schedule = optax.linear_schedule(1.0, 4.0, transition_steps=3)
    tx = optax.inject_hyperparams(lambda s: FORMS[form](SGD, s).tx)(s=schedule)
    points = follow(tx, locate, steps=3)
    np.testing.assert_allclose(points, [(1.0, 1.0), (0.9, 0.8), (0.8, 0.6), (0.7, 0.4)], rtol=1e-5)


@FORM
def test_hyperparameters_injected_inside_reach_the_rollout(form):
    inner = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.5)
    row = Optimizer("injected", lambda: inner, predictor=predictors.zero_gradient())
    loop = FORMS[form](row, 1)

    def change(state):
        return state._replace(inner_state=inject_into(state.inner_state, learning_rate=0.2))

    points = follow(loop.tx, loop.locate, [change])
    # v₁ = 1: θ = 0.9, θ̂ = θ - 0.1·0.5. v₂ = 1.5: θ = 0.9 - 0.2·1.5, θ̂ = θ - 0.2·0.75.
    np.testing.assert_allclose(points, [(1.0, 1.0), (0.9, 0.85), (0.6, 0.45)], rtol=1e-5)


# --------------------------------------------------------------------------------------------------
# What does not depend on the inner optimizer: one row for each predictor
# --------------------------------------------------------------------------------------------------

ONE_PER_PREDICTOR = pytest.mark.parametrize(
    "optimizer",
    [
        o
        for o in OPTIMIZERS
        if o.name in ("adam", "zero_gradient_adamw", "named_adam", "named_sgdm", "named_rmsprop")
    ],
    ids=lambda o: o.name,
)


@ONE_PER_PREDICTOR
@FORM
def test_horizon_given_as_an_array_survives_donation(optimizer, form):
    loop = FORMS[form](optimizer, jnp.array(S))
    program = jax.jit(loop.train, donate_argnums=(0, 1))
    first, second = (program(p := small_params(), loop.tx.init(p)) for _ in range(2))
    assert_bitwise_equal(first, second)
    reference = FORMS[form](optimizer, S)
    params = small_params()
    _, (points, _) = jax.jit(reference.train)(params, reference.tx.init(params))
    assert_close(first[1][0], points)


@ONE_PER_PREDICTOR
@FORM
def test_vmap_over_parameters(optimizer, form):
    loop = FORMS[form](optimizer)

    def points(params):
        return loop.train(params, loop.tx.init(params))[1][0]

    stack = jax.tree.map(lambda p: jnp.stack([p, 0.5 * p, p - 1.0]), small_params())
    batched, single = jax.jit(jax.vmap(points))(stack), jax.jit(points)
    for lane in range(3):
        expected = single(jax.tree.map(lambda p: p[lane], stack))  # noqa: B023
        assert_close(jax.tree.map(lambda p: p[lane], batched), expected)  # noqa: B023


@ONE_PER_PREDICTOR
@FORM
def test_containers_change_nothing(optimizer, form):
    """NamedTuple, list, tuple, None and {}: the same numbers as in a flat list."""
    values = [jnp.linspace(-1, 1, 12).reshape(4, 3), jnp.array([0.1, -0.2]), jnp.ones(1), 0.3]
    values = [jnp.asarray(v, jnp.float32) for v in values]
    containers = jax.tree.unflatten(jax.tree.structure(TREES["containers"]), values)
    loop = FORMS[form](optimizer)
    program = jax.jit(loop.train)
    in_containers, flat = (program(p, loop.tx.init(p))[1][0] for p in (containers, values))
    assert isinstance(in_containers.predicted, type(containers))
    assert_close(jax.tree.leaves(in_containers), jax.tree.leaves(flat))


@pytest.mark.parametrize("optimizer", NAMED_ROWS, ids=lambda o: o.name)
def test_prediction_from_moments_moves_with_the_parameters(optimizer):
    """θ̂ = θ + s·d with d independent of θ: the Jacobian is the identity."""
    params, state, _ = three_steps(explicit(optimizer))
    cotangents = jax.tree.map(jnp.cos, params)
    _, pull_back = jax.vjp(lambda p: explicit(optimizer).locate(p, state).predicted, params)
    assert_bitwise_equal(pull_back(cotangents)[0], cotangents)


def test_rolled_out_decay_shrinks_with_the_parameters():
    """AdamW's decay multiplies θ by 1 - γλ in each of the s steps, so the Jacobian does too."""
    row = Optimizer(
        "decay",
        lambda: optax.adamw(0.1, weight_decay=0.5),
        predictor=predictors.zero_gradient(),
    )
    params, state, _ = three_steps(explicit(row, s=2))
    _, pull_back = jax.vjp(lambda p: explicit(row, s=2).locate(p, state).predicted, params)
    expected = jax.tree.map(lambda p: jnp.full_like(p, (1 - 0.1 * 0.5) ** 2), params)
    assert_close(pull_back(optax.tree.ones_like(params))[0], expected)
