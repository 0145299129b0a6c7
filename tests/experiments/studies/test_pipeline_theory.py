"""The largest stable rates of two coupled stages."""

import numpy as np
import pytest

from experiments.studies.pipeline.theory import (
    CASES,
    COUPLINGS,
    DELAYS,
    FOUND,
    MOMENTUM,
    Case,
    alike,
    climbed,
    of_four,
    stable_rates,
)
from tests.late_quadratics import Step
from xgrad_optax.stability import max_learning_rate

NONE, EACH, UNIFORM = (0, 0), DELAYS, (DELAYS[0], DELAYS[0])


@pytest.mark.parametrize("horizons", [NONE, EACH, UNIFORM, (12, 3)])
def test_stages_apart_have_the_lower_of_their_own_limits(horizons):
    case = Case("", 0.0, 4.0)
    own = [
        float(max_learning_rate(h, s, MOMENTUM, delay=delay))
        for h, s, delay in zip(np.diag(case.hessian), horizons, DELAYS, strict=True)
    ]
    found = stable_rates(case.hessian, np.array(horizons))
    np.testing.assert_allclose(found, min(own), rtol=0.05)


@pytest.mark.parametrize("case", CASES[1:], ids=lambda case: case.title)
@pytest.mark.parametrize("horizons", [NONE, EACH, UNIFORM])
def test_steps_as_they_are_defined_decay_below_and_grow_above(case, horizons):
    found = float(stable_rates(case.hessian, np.array(horizons)))
    below, above = (
        Step(case.hessian, rate, np.array(horizons), MOMENTUM, 0.0, "sgdm", False, DELAYS)
        for rate in (0.95 * found, 1.1 * found)
    )
    assert below.growth(1000) < 1 < above.growth(1000)


def test_a_uniform_horizon_is_best_where_stages_are_coupled_and_alike():
    horizons = np.array([NONE, EACH, UNIFORM])
    apart, coupled, strongly, unlike = (stable_rates(case.hessian, horizons) for case in CASES)
    assert apart[0] < apart[1] == apart[2]
    assert coupled[1] < coupled[2] < coupled[0], "each its own delay is worse than none"
    assert strongly[0] < strongly[1] < strongly[2] / 5
    assert unlike[2] < unlike[0] < unlike[1], "the last stage alone bounds the uniform horizon"
    steepest = unlike[2] * np.diag(CASES[-1].hessian)[1]
    np.testing.assert_allclose(steepest, 2 * (1 + MOMENTUM) / (1 + 2 * DELAYS[0]), rtol=0.05)


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_no_step_betters_the_horizons_that_were_found(coupling):
    delays = [6, 4, 2, 0]
    np.testing.assert_array_equal(
        climbed(alike(coupling), delays, FOUND[coupling]), FOUND[coupling]
    )
    rates = of_four(coupling)
    assert max(rates.values()) == rates["found"]


def test_steps_of_four_stages_decay_below_and_grow_above_what_was_found():
    found, horizons = of_four(0.9)["found"], np.array(FOUND[0.9])
    below, above = (
        Step(alike(0.9), rate, horizons, MOMENTUM, 0.0, "sgdm", False, [6, 4, 2, 0])
        for rate in (0.95 * found, 1.1 * found)
    )
    assert below.growth(1000) < 1 < above.growth(1000)
    assert found > 7 * of_four(0.9)["uniform"], "the stage in time foresees most"
