"""A task that compiles in no time, and runs of the command line."""

import jax
import jax.numpy as jnp
import pytest

from experiments.cli import main
from experiments.data import Splits
from experiments.optimizers import OPTIMIZERS
from experiments.tasks import Task


@pytest.fixture(autouse=True)
def strict_numerics():
    """Replaces the library tests' fixture: plain Optax, which runs here, promotes dtypes freely."""


def load_regression():
    key, noise_key = jax.random.split(jax.random.key(0))
    inputs = jax.random.normal(key, (56, 3))
    noise = jax.random.normal(noise_key, (56,))
    targets = inputs @ jnp.array([1.0, -2.0, 0.5]) + 0.1 * noise
    parts = (slice(0, 35), slice(35, 45), slice(45, 56))
    return Splits(*((inputs[part], targets[part]) for part in parts))


def squared_error(params, examples, key):
    del key
    inputs, targets = examples
    return jnp.mean((inputs @ params - targets) ** 2)


@pytest.fixture(scope="session")
def regression():
    return Task(
        name="regression",
        load=load_regression,
        init=lambda key: jax.random.normal(key, (3,)),
        loss=squared_error,
        metric=squared_error,
        metric_name="squared error",
        metric_higher_is_better=False,
        epochs=4,
        batch_size=8,
        early_epoch=2,
        target_loss=0.5,
        learning_rates=dict.fromkeys(OPTIMIZERS, 0.05),
        learning_rate_origin="made up",
    )


@pytest.fixture
def compare_regression(regression, monkeypatch, tmp_path):
    """Runs ``compare`` on the regression task; returns the exit status and the run folder."""
    monkeypatch.setattr("experiments.cli.load_task", lambda name: regression)
    folder = tmp_path / "run"

    def run(arguments=""):
        return main(["compare", "--output", str(folder), *arguments.split()]), folder

    return run
