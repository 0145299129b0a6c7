"""The bounds on prediction errors hold along NumPy trajectories and are reached where they can."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.reference.algorithm_1 import algorithm_1
from tests.reference.optimizers import Adam
from xgrad_optax.diagnostics import adam_error_bound, sgdm_error_bound

pytestmark = pytest.mark.usefixtures("quickly_compiled")
norm = functools.partial(np.linalg.norm, axis=-1)


BETAS = {"β1": 0.9, "β2": 0.999}
STEPS = 40


def run_adam(gradient, start, γ, s, **hyperparameters):
    """Row t after t updates: θ, m̂, √v̂, D, u, the point x_t and the gradient g_t taken there."""
    gradients = [np.zeros_like(start)]  # there is no g_0

    def noted(x, t):
        gradients.append(gradient(x, t))
        return gradients[-1]

    adam = Adam(**hyperparameters)
    θ, θ_hat, moments = algorithm_1(adam, noted, np.asarray(start), s, STEPS + 1, γ)
    t = np.maximum(np.arange(STEPS + 1), 1)[:, None]
    m_hat = moments["m"] / (1 - adam.β1**t)
    D = np.sqrt(moments["v"] / (1 - adam.β2**t)) + adam.ε
    u = np.divide(m_hat, D, out=np.zeros_like(D), where=D > 0)
    x = np.concatenate([θ[:1], θ_hat])[: STEPS + 2]
    rows = {"θ": θ, "m": m_hat, "root": D - adam.ε, "D": D, "u": u, "x": x}
    return rows | {"g": np.array(gradients[: STEPS + 1])}


def most(t, β2):
    """C, the most that an entry counts for."""
    return np.sqrt(2 * (1 - β2**t) / (1 - β2))


def adam_bounds_and_errors(run, horizon, γ, s, smoothness, noise=None, β1=0.9, β2=0.999, **_):
    """The bound and the actual error of each prediction from t = 1 on, ``[predictions]``.

    Args:
      run: of :func:`run_adam`.
      horizon: h.
      γ: the learning rate of update t + 1 as a function of t.
      s: the horizon of training.
      smoothness: t -> L.
      noise: how far each g_t is from the loss's gradient, ``[steps + 1, n]``.
      β1: of Adam.
      β2: of Adam.
    """
    t = np.arange(1, STEPS + 1 - horizon)
    D, rates = run["D"][t], np.array([γ(k) for k in range(STEPS + horizon)])
    predicted = run["θ"][t] - horizon * rates[t][:, None] * run["u"][t]
    errors = norm(predicted - run["θ"][t + horizon])
    noise = np.zeros_like(run["g"]) if noise is None else noise
    within = lambda x, t: np.minimum(np.abs(x) / run["D"][t], most(t, β2))  # noqa: E731
    used = np.array([within(noise[a : a + horizon + 1], a) for a in t])
    root = run["root"][t]
    over_root = lambda x: np.divide(x, root, out=np.zeros_like(x), where=root > 0)  # noqa: E731
    measured = {
        "smoothness": np.array([smoothness(each) for each in t]),
        "update_norm": norm(run["u"][t]),
        "gradient_gap": norm((run["g"][t] - run["m"][t]) / D),
        "scale_gap": norm(over_root(run["u"][t] * (run["g"][t] ** 2 - root**2)) / D),
        "largest_update": np.abs(over_root(run["m"][t])).max(axis=-1),
        "largest_gradient": np.abs(run["g"][t] / D).max(axis=-1),
        "point_distance": norm(run["x"][t + 1] - run["x"][t]),
        "noise": norm(used).max(axis=-1),
        "largest_noise": used.max(axis=(-2, -1)),
    }
    measured = {name: jnp.asarray(value, jnp.float32) for name, value in measured.items()}
    measured["count"] = jnp.asarray(t)
    schedule = lambda count: jnp.asarray(rates, jnp.float32)[count]  # noqa: E731
    bounds = adam_error_bound(horizon, schedule, β1, β2, s=s, **measured)
    return np.asarray(bounds, np.float64), errors


def coupled_quadratic(seed, sigma=0.0, entries=6):
    """A Hessian, a start, and a noise for each step."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(entries, entries)) * np.logspace(0, -1.5, entries)
    noise = sigma * rng.normal(size=(STEPS + 2, entries))
    return factors @ factors.T, rng.normal(size=entries), noise


SCHEDULES = {
    "constant": lambda t: 0.03,
    "decay": lambda t: 0.1 * 0.9**t,
    "rise": lambda t: 4e-3 * t,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("s", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(
    ("hyperparameters", "sigma"),
    [
        (BETAS, 0.0),
        (BETAS, 0.3),
        ({"β1": 0.5, "β2": 0.8}, 0.0),  # soon as if it had always run
        ({"β1": 0.0, "β2": 0.95, "ε": 0.2}, 0.1),
        ({"β1": 0.95, "β2": 0.9}, 0.0),
    ],
)
def test_the_bound_holds_for_adam_from_the_first_update_on(
    hyperparameters, sigma, s, schedule, seed
):
    γ = SCHEDULES[schedule]
    hessian, start, noise = coupled_quadratic(seed, sigma)
    run = run_adam(lambda x, t: hessian @ x + noise[t + 1], start, γ, s, **hyperparameters)

    def smoothness(t):
        return np.linalg.norm(hessian / run["D"][t][:, None], 2)

    for horizon in (1, 2, 6):
        bounds, errors = adam_bounds_and_errors(
            run, horizon, γ, s, smoothness, noise[: STEPS + 1], **hyperparameters
        )
        assert np.all(errors <= bounds * (1 + 1e-4) + 1e-6)


def follow(gradients, horizon=3, γ=0.1, **hyperparameters):
    """Bound and error, each ``[predictions]``, for gradients that no point has an influence on."""
    gradients = np.asarray(gradients, float)
    run = run_adam(
        lambda x, t: gradients[t],
        np.zeros(gradients.shape[1:]),
        lambda t: γ,
        0.0,
        **hyperparameters,
    )
    return adam_bounds_and_errors(run, horizon, lambda t: γ, 0.0, lambda t: 0.0, **hyperparameters)


def test_the_bound_is_reached_where_a_gradient_falls_and_the_scale_forgets_it():
    gradients = np.where(np.arange(STEPS + 1) < 5, 1.0, 1e-3)[:, None]
    bounds, errors = follow(gradients, β1=0.0, β2=0.9)
    assert errors[10] > 0
    np.testing.assert_allclose(bounds[10], errors[10], rtol=1e-4)


def test_the_bound_is_reached_where_a_gradient_changes_a_little():
    # The least and the largest scale would allow for far more than what comes of it.
    gradients = np.where(np.arange(STEPS + 1) < 20, 1.0, 1.001)[:, None]
    bounds, errors = follow(gradients, horizon=1, β1=0.0, β2=0.999, ε=0.0)
    np.testing.assert_allclose(bounds[20], errors[20], rtol=0.05)


def test_the_bound_is_reached_where_the_first_moment_starts_from_nothing():
    # m̂_2 = 0; what then comes is as far from it as g_2 is, and too small to move the scale.
    β1 = 1e-3
    gradients = np.array([[1.0], [-β1]] + [[β1]] * (STEPS - 1))
    bounds, errors = follow(gradients, horizon=1, β1=β1, β2=0.999, ε=0.0)
    np.testing.assert_allclose(bounds[1], errors[1], rtol=1e-5)


def test_noise_moves_a_scale_of_short_memory_more_than_a_mean_of_long_memory():
    short, place = {"β1": 0.9999, "β2": 0.5}, 30
    noise = np.where(np.arange(STEPS + 2) == place + 1, -0.01, 0.0)[:, None]
    γ, s = SCHEDULES["constant"], 0.0
    run = run_adam(lambda x, t: 1 + noise[t + 1], np.zeros(1), γ, s, **short)
    bounds, errors = adam_bounds_and_errors(
        run, 1, γ, s, lambda t: 0.0, noise[: STEPS + 1], **short
    )
    error, bound = errors[place - 1], bounds[place - 1]
    assert 1e-4 < error <= bound < 6 * error


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("horizon", [1, 4])
def test_the_bound_holds_and_is_near_where_gradients_come_out_of_nothing(horizon, seed):
    # Over the scale of the step before, that of ε, they are as good as infinite.
    rng = np.random.default_rng(seed)
    seen = rng.random((STEPS + 1, 50)) < 0.1
    gradients = np.where(seen, rng.standard_cauchy(seen.shape), 0)
    run = run_adam(lambda x, t: gradients[t], np.zeros(50), SCHEDULES["constant"], 0.0)
    given = SCHEDULES["constant"], 0.0, lambda t: 0.0
    bounds, errors = adam_bounds_and_errors(run, horizon, *given, noise=run["g"])
    assert np.all(errors <= bounds)
    assert np.median(bounds / errors) < 10
    assert (np.abs(run["g"][2:]) / run["D"][1:-1]).max() > 1e6


def test_the_bound_for_adam_is_that_of_its_own_scale_and_no_other():
    """Gradients and loss scaled by a factor leave Adam, and so its bound, as they are."""
    hessian, start, _ = coupled_quadratic(0)
    found = []
    for factor in (1.0, 100.0):
        scaled = factor * hessian
        run = run_adam(lambda x, t: scaled @ x, start, lambda t: 0.03, 1.0, ε=0.0)  # noqa: B023
        found.append(
            adam_bounds_and_errors(
                run,
                4,
                lambda t: 0.03,
                1.0,
                lambda t: np.linalg.norm(scaled / run["D"][t][:, None], 2),  # noqa: B023
                ε=0.0,
            )[0]
        )
    np.testing.assert_allclose(*found, rtol=1e-4)


@pytest.mark.parametrize("s", [0.0, 1.0])
def test_with_the_smoothness_of_the_places_visited_the_bound_for_adam_is_near(s):
    hessian, start, _ = coupled_quadratic(0)
    run = run_adam(lambda x, t: hessian @ x, start, lambda t: 0.003, s, **BETAS)

    def visited(t):
        """Of the places visited from t on."""
        ahead = slice(t + 1, t + 4)
        change = np.minimum(np.abs(run["g"][ahead] - run["g"][t]) / run["D"][t], most(t, 0.999))
        return (norm(change) / norm(run["x"][ahead] - run["x"][t])).max()

    bounds, errors = adam_bounds_and_errors(run, 3, lambda t: 0.003, s, visited)
    assert np.all(errors <= bounds * (1 + 1e-4))
    assert np.median(bounds / errors) < 5


ARGUMENTS = {
    "smoothness": 2.0,
    "update_norm": 1.5,
    "gradient_gap": 0.3,
    "scale_gap": 0.7,
    "largest_update": 1.1,
    "largest_gradient": 1.2,
    "point_distance": 0.2,
    "s": 1.0,
    "noise": 0.1,
}


def test_arrays_are_bounded_one_by_one_and_under_jit():
    counts = jnp.array([1, 10, 1000])
    arrays = {name: value * jnp.array([1.0, 0.5, 2.0]) for name, value in ARGUMENTS.items()}
    bound = functools.partial(adam_error_bound, 4, lambda count: 0.1 / (1 + count))
    found = jax.jit(bound)(count=counts, **arrays)
    assert found.shape == (3,)
    for place in range(3):
        one = bound(
            count=int(counts[place]),
            **{name: float(value[place]) for name, value in arrays.items()},
        )
        assert one.shape == ()
        np.testing.assert_allclose(found[place], one, rtol=1e-5)


def test_the_largest_entry_of_the_noise_is_at_most_its_norm():
    bound = functools.partial(adam_error_bound, 4, 0.1, count=100, **ARGUMENTS)
    np.testing.assert_array_equal(bound(), bound(largest_noise=ARGUMENTS["noise"]))
    assert bound(largest_noise=0.0) < bound()


# --------------------------------------------------------------------------------------------------
# Errors
# --------------------------------------------------------------------------------------------------

_SGDM = functools.partial(
    sgdm_error_bound,
    learning_rate=0.1,
    momentum=0.9,
    smoothness=1,
    velocity_norm=1,
    gradient_gap=1,
    point_distance=1,
)
_ADAM = functools.partial(adam_error_bound, learning_rate=0.1, count=1, **ARGUMENTS)


@pytest.mark.parametrize("bound", [_SGDM, _ADAM])
@pytest.mark.parametrize(("horizon", "kind"), [(0, ValueError), (1.0, TypeError)])
def test_bad_horizons(bound, horizon, kind):
    with pytest.raises(kind, match="horizon must be a whole number >= 1, got"):
        bound(horizon)


@pytest.mark.parametrize("count", [0, np.array([3, 0])])
def test_nothing_is_predicted_before_the_first_update(count):
    message = re.escape(f"count must be at least 1, got {count}: before the first update")
    with pytest.raises(ValueError, match=message):
        _ADAM(1, count=count)


@pytest.mark.parametrize("bound", [_SGDM, _ADAM])
def test_whole_numbers_are_as_good_as_others(bound):
    whole = {"smoothness": 1, "gradient_gap": 2, "point_distance": 3, "noise": 1}
    floats = {name: float(value) for name, value in whole.items()}
    np.testing.assert_array_equal(bound(3, **whole), bound(3, **floats))
