"""Which rows get a backward pass: every draw enumerated, so that expectations are exact."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import unbiased
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xgrad_optax.control_variates import pick, select, selection_probabilities
from xgrad_optax.control_variates.selection import (
    Selection,
    batch_size_of,
    block_size,
    leave,
    regroup,
    spread,
)

SCORES = hnp.arrays(
    np.float32,
    (8,),
    elements=st.floats(width=32) | st.floats(0, 10, width=32) | st.sampled_from([0.0, np.nan]),
)


@pytest.fixture(scope="module")
def draws():
    """Many draws from 8 rows in 2 blocks: how often each row, and with which weights."""
    scores = jnp.array([1.0, 0.0, 5.0, 2.0, 0.5, jnp.nan, -3.0, 8.0])
    selection = jax.jit(jax.vmap(lambda key: select(key, 8, 0.25, scores, defensive=0.2)))(
        jax.random.split(jax.random.key(0), 20_000)
    )
    return selection_probabilities(scores, 8, defensive=0.2), selection


# --- probabilities --------------------------------------------------------------------------------


@given(SCORES, st.floats(0.01, 1))
def test_probabilities(scores, defensive):
    p = np.asarray(selection_probabilities(jnp.asarray(scores), 8, defensive=defensive), float)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
    assert np.all(p >= defensive / 8 * (1 - 1e-5))
    good = np.where(np.isfinite(scores) & (scores > 0), scores, 0).astype(float)
    share = good / good.sum() if good.sum() > 0 else np.full(8, 1 / 8)
    np.testing.assert_allclose(p, (1 - defensive) * share + defensive / 8, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("scores", [None, jnp.zeros(4), jnp.full(4, jnp.nan), -jnp.ones(4)])
def test_scores_that_say_nothing_leave_an_even_choice(scores):
    np.testing.assert_allclose(selection_probabilities(scores, 4), 0.25)


@pytest.mark.parametrize("size", [1e-37, 1e35])
def test_very_small_and_very_large_scores_count(size):
    p = selection_probabilities(jnp.full(128, size).at[:2].set(3 * size), 128)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(p[0], 0.9 * 3 / 132 + 0.1 / 128, rtol=1e-5)


def test_largest_scores_are_taken_for_equal():
    p = selection_probabilities(jnp.array([3e38, 1e38, 0.0, 1.0]), 4)
    np.testing.assert_allclose(p, [0.475, 0.475, 0.025, 0.025], rtol=1e-5)


def test_whole_numbers_and_low_precision_are_scores_too():
    for dtype in (jnp.int32, jnp.bfloat16):
        p = selection_probabilities(jnp.array([1, 3], dtype), 2, defensive=0.2)
        np.testing.assert_allclose(p, [0.3, 0.7], rtol=1e-6)


# --- draws ----------------------------------------------------------------------------------------


def test_rows_are_drawn_as_often_as_their_probability_says(draws):
    p, selection = draws
    for block, choice in zip(np.reshape(p, (2, 4)), np.asarray(selection.choice).T, strict=True):
        expected = block / block.sum()
        frequency = np.bincount(choice, minlength=4) / len(choice)
        error = np.sqrt(expected * (1 - expected) / len(choice))
        assert np.all(np.abs(frequency - expected) < 4.5 * error)


def test_weights_are_the_inverse_of_the_probability(draws):
    p, selection = draws
    blocks = np.reshape(np.asarray(p, float), (2, 4))
    drawn = np.take_along_axis(blocks[None], np.asarray(selection.choice)[..., None], axis=2)
    expected = blocks.sum(1) / (8 * drawn[..., 0])
    np.testing.assert_allclose(selection.weights, expected, rtol=1e-5)


def test_weights_are_bounded_by_the_defensive_share(draws):
    p, selection = draws
    shares = np.reshape(p, (2, 4)).sum(1)
    largest = np.max(selection.weights, axis=0)
    assert np.all(largest <= shares / 0.2 * (1 + 1e-6))
    np.testing.assert_allclose(largest, shares / 0.2, rtol=1e-5)  # rows without a score were drawn


def test_even_choice_has_equal_weights_and_one_row_of_each_block():
    selection = jax.jit(jax.vmap(lambda key: select(key, 12, 1 / 3)))(
        jax.random.split(jax.random.key(0), 99)
    )
    np.testing.assert_allclose(selection.weights, 0.25, rtol=1e-6)
    assert selection.choice.shape == (99, 4)
    assert selection.choice.dtype == jnp.int32
    assert set(np.unique(selection.choice)) == {0, 1, 2}


@pytest.mark.parametrize("f", [1 / 2, 1 / 3, 1 / 6])
def test_unbiased_for_any_order_of_the_rows(f):
    """The expectation over all draws, summed up exactly, is the mean of the batch."""
    size = block_size(6, f)
    choices = np.array(list(itertools.product(range(size), repeat=6 // size)))

    @jax.jit
    def expectation(values):
        blocks = selection_probabilities(jnp.abs(values), 6).reshape(-1, size)
        drawn = jax.vmap(lambda c: jnp.take_along_axis(blocks, c[:, None], 1)[:, 0])(choices)
        shares = blocks.sum(1)[None]
        chances, weights = jnp.prod(drawn / shares, axis=1), shares / (6 * drawn)
        rows = jax.vmap(lambda c, w: pick(values, Selection(c, w)))(choices, weights)
        return chances.sum(), chances @ jnp.sum(weights * rows, axis=1)

    @given(st.permutations([1.0, -2.0, 4.0, 8.0, 16.0, 0.5]))
    def check(values):
        total, estimate = expectation(jnp.array(values))
        np.testing.assert_allclose(total, 1, rtol=1e-5)
        np.testing.assert_allclose(estimate, np.mean(values), rtol=1e-5)

    check()


def test_unbiased_with_the_draws_of_select(draws):
    _, selection = draws
    values = jnp.arange(8.0) ** 2
    estimates = jax.vmap(lambda s: s.weights @ pick(values, s))(selection)
    assert unbiased.biased_leaves(estimates, values.mean()) == {}
    # Rows at fixed places, weights forgotten: found.
    unweighted = jax.vmap(lambda s: pick(values, s).mean())(selection)
    assert unbiased.biased_leaves(unweighted, values.mean()) != {}


# --- taking a batch apart -------------------------------------------------------------------------

BATCH = {"x": jnp.arange(24.0).reshape(12, 2), "y": jnp.arange(12)}


@jax.jit
def taken_apart(key):
    selection = select(key, 12, 0.25, jnp.arange(12.0))
    drawn, others = pick(BATCH, selection), leave(BATCH, selection)
    return selection, drawn, others, regroup(drawn, others), spread(selection, 12)


def test_pick_leave_and_regroup():
    selection, drawn, others, joined, weights = taken_apart(jax.random.key(5))
    expected = np.arange(3) * 4 + np.asarray(selection.choice)
    np.testing.assert_array_equal(drawn["y"], expected)
    np.testing.assert_array_equal(np.sort(others["y"]), np.setdiff1d(np.arange(12), expected))
    np.testing.assert_array_equal(joined["y"][::4], expected)
    np.testing.assert_array_equal(np.sort(joined["y"]), np.arange(12))
    blocks = np.asarray(joined["y"]) // 4
    np.testing.assert_array_equal(blocks, np.repeat(np.arange(3), 4))  # each in its own block
    for part in (drawn, others, joined):
        np.testing.assert_array_equal(part["x"][:, 0], 2 * np.asarray(part["y"]))
    np.testing.assert_array_equal(weights[expected], selection.weights)
    assert np.count_nonzero(weights) == 3


def test_fraction_one_draws_every_row():
    selection = jax.jit(lambda key: select(key, 12, 1.0, jnp.arange(12.0)))(jax.random.key(0))
    np.testing.assert_array_equal(selection.choice, 0)
    np.testing.assert_allclose(selection.weights, 1 / 12, rtol=1e-6)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "f", "message"),
    [
        (8, 0.3, "must be one over a whole number (1/2, 1/4, ...)"),
        (8, 0.75, "got 0.75"),
        (10, 0.25, "a batch of 10 examples cannot be split into blocks of 4"),
        (2, 0.25, "a batch of 2 examples cannot be split into blocks of 4 (control fraction 1/4)"),
        (0, 0.25, "a batch of 0 examples"),
        (8, 0, "must lie in (0, 1], got 0"),
        (8, 2, "must lie in (0, 1], got 2"),
    ],
)
def test_batches_and_fractions_that_do_not_fit(size, f, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        select(jax.random.key(0), size, f)


@pytest.mark.parametrize("defensive", [0, -0.1, 1.1, float("nan")])
def test_bad_defensive_share(defensive):
    with pytest.raises(ValueError, match=re.escape("defensive must lie in (0, 1], got")):
        select(jax.random.key(0), 8, 0.5, jnp.ones(8), defensive=defensive)


def test_scores_of_another_shape():
    with pytest.raises(ValueError, match=re.escape("scores need shape (8,), got (4,)")):
        select(jax.random.key(0), 8, 0.5, jnp.ones(4))


@pytest.mark.parametrize(
    "batch", [{}, {"x": jnp.ones(3), "y": jnp.ones(4)}, {"x": jnp.ones(3), "y": jnp.ones(())}]
)
def test_batches_without_rows(batch):
    with pytest.raises(ValueError, match="the same number of rows, one per example"):
        batch_size_of(batch)
