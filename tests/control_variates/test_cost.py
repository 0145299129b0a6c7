"""The measured cost ratio against one worked out by hand."""

import re

import jax
import jax.numpy as jnp
import pytest

from xgrad_optax.control_variates import (
    HeadedLoss,
    HeadedParams,
    from_function,
    measure_cost_ratio,
    predicted_value_and_grad,
)

WIDTH, ROWS = 256, 64


def features(trunk, x):
    for w in trunk:
        x = jnp.maximum(x @ w, 0.0)
    return x


LOSS = HeadedLoss(features, lambda out, y: jnp.sum((out - y) ** 2, axis=1))
PARAMS = HeadedParams([jnp.ones((WIDTH, WIDTH)) / WIDTH] * 2, {"kernel": jnp.ones((WIDTH, 1))})
BATCH = (jnp.ones((ROWS, WIDTH)), jnp.ones((ROWS, 1)))
NOTHING = from_function(lambda params, batch, weights: jax.tree.map(jnp.zeros_like, params.trunk))


def measured(fit_batch=None, repetitions=1, **options):
    gradient = predicted_value_and_grad(LOSS, NOTHING, **options)
    state = gradient.init(PARAMS, jax.random.key(0))
    return measure_cost_ratio(gradient, PARAMS, state, BATCH, fit_batch, repetitions=repetitions)


@pytest.mark.parametrize(
    "options",
    [{"control_fraction": 0.25}, {"control_fraction": "auto", "cost_ratio": 0.3}],
    ids=["quarter", "auto"],
)
def test_flops_of_two_dense_layers(options):
    """Forward two products a row, backward three (none for the inputs): c = 2/5.

    Nothing is predicted, so that is all; smaller operations weigh a few per cent at this width.
    """
    ratio = measured(**options)
    assert ratio.flops == pytest.approx(2 / 5, rel=0.05)
    assert ratio.seconds > -1


def test_flops_of_a_choice_after_the_forward_pass():
    """All forward and a quarter forward and backward: C = 2/5 + 1/4, c = C - f."""
    assert measured(importance="loss").flops == pytest.approx(2 / 5, rel=0.05)


def test_fits_are_spread_over_their_interval():
    without = measured().flops
    gained = [measured(BATCH, refit_interval=r).flops - without for r in (10, 40)]
    # Its measurement takes one gradient of each of 64 examples: at least a plain step's work.
    assert gained[0] > 1 / 10
    assert gained[0] == pytest.approx(4 * gained[1], rel=1e-3)


def test_nothing_to_measure():
    with pytest.raises(ValueError, match="a control fraction of 1 predicts nothing"):
        measured(control_fraction=1)
    with pytest.raises(ValueError, match=re.escape("repetitions must be at least 1, got 0")):
        measured(repetitions=0)
