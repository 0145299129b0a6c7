"""Parameters with delays of their own: the model of a pipeline against its steps."""

import jax
import numpy as np
import pytest

from tests.late_quadratics import Step, radius
from xgrad_optax.stability import spectral_radius, stages_spectral_radius


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def random_stages(seed, method, coupled, **options):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, 3))
    return Step(
        hessian=root @ root.T,
        gamma=rng.uniform(0.001, 0.05),
        s=rng.uniform(0, 4, size=3),
        mu=rng.uniform(0, 0.95),
        decay=rng.uniform(0, 0.5),
        method=method,
        coupled=coupled,
        delays=tuple(int(delay) for delay in rng.integers(0, 5, size=3)),
        **options,
    )


@pytest.mark.parametrize("method", ["sgdm", "ema"])
@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_radius_of_stages_is_that_of_the_step(method, coupled, seed):
    step = random_stages(seed, method, coupled)
    hessian, gamma, s, mu, decay = step[:5]
    options = {"method": method, "weight_decay": decay, "coupled": coupled}
    found = stages_spectral_radius(hessian, gamma, s, mu, step.delays, **options)
    np.testing.assert_allclose(found, radius(step), rtol=1e-6)
    np.testing.assert_allclose(found, radius(step._replace(in_queues=True)), rtol=1e-6)
    np.testing.assert_allclose(found, step.growth(), rtol=2e-3)


def test_stages_that_are_not_coupled_and_stages_that_are_alike():
    h, s, delays = np.array([0.5, 1.0, 2.0]), np.array([0.0, 2.0, 5.0]), [0, 2, 4]
    each = [
        float(spectral_radius(*x, mu, delay=delay))
        for *x, mu, delay in zip(h, [0.02] * 3, s, [0.9] * 3, delays, strict=True)
    ]
    found = stages_spectral_radius(np.diag(h), 0.02, s, 0.9, delays)
    np.testing.assert_allclose(found, max(each), rtol=1e-9)
    root = np.random.default_rng(0).normal(size=(3, 3))
    hessian = root @ root.T
    alike = spectral_radius(np.linalg.eigvalsh(hessian), 0.01, 2.0, 0.9, delay=2).max()
    rates = np.array([0.01, 0.01])
    found = stages_spectral_radius(np.stack([hessian] * 2), rates, 2.0, 0.9, [2, 2, 2])
    np.testing.assert_allclose(found, [alike, alike], rtol=1e-9)


def test_stages_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"hessian must be a square matrix .*, got shape \(2, 3\)"):
        stages_spectral_radius(np.ones((2, 3)), 0.1, 1.0, 0.9, [0, 1])
    with pytest.raises(ValueError, match="one entry for each of the 2 parameters, got 3"):
        stages_spectral_radius(np.eye(2), 0.1, 1.0, 0.9, [0, 1, 2])
    with pytest.raises(ValueError, match="hessian must be finite, got nan"):
        stages_spectral_radius(np.full((2, 2), np.nan), 0.1, 1.0, 0.9, [0, 1])
    with pytest.raises(TypeError, match="hessian must be a real number or array"):
        stages_spectral_radius(np.eye(2) * 1j, 0.1, 1.0, 0.9, [0, 1])
