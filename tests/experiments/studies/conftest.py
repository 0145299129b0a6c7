"""A problem whose curvature is known."""

import jax
import jax.numpy as jnp
import pytest

from experiments.cli import main
from experiments.problems import Problem

LARGEST = 5.0  # curvature


@pytest.fixture(scope="session")
def quadratic():
    """½ Σ h_i θ_i² + noise·θ: the loss that the quadratic model is exact for."""
    curvatures = jnp.linspace(0.5, LARGEST, 6)
    noise = 0.1 * jax.random.normal(jax.random.key(1), (40, 6))
    noise -= noise.mean(axis=0)

    def loss(params, examples):
        quadratic = jnp.sum(curvatures.astype(params["θ"].dtype) * params["θ"] ** 2) / 2
        return quadratic + jnp.mean(examples @ params["θ"])

    def init(key):
        return {"θ": 1 + jax.random.uniform(key, (6,))}

    return Problem("quadratic", noise, noise[:10], init, loss, batch_size=8)


@pytest.fixture(scope="module")
def run_on_quadratic(quadratic, tmp_path_factory):
    """Runs a command on the quadratic; returns the exit status and the run folder."""

    def run(arguments, work):
        folder = tmp_path_factory.mktemp("run") / "run"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(work, "load_problem", lambda *_: quadratic)
            return main([*arguments.split(), "--output", str(folder)]), folder

    return run
