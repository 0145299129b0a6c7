"""A task that compiles in no time, known to the command line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.arms import OPTIMIZERS
from experiments.cli import find_commands
from experiments.recipe import Recipe
from experiments.task import Data, Metric, Protocol, Task, Variables, gradient_of
from experiments.tasks import TASKS, Row, constant

find_commands()  # help is written when they are imported: before a test adds names to the tables


@pytest.fixture(autouse=True)
def strict_numerics():
    """Replaces the library tests' fixture: plain Optax, which runs here, promotes dtypes freely."""


def load_regression(data_dir):
    key, noise_key = jax.random.split(jax.random.key(0))
    inputs = jax.random.normal(key, (56, 3))
    noise = jax.random.normal(noise_key, (56,))
    targets = inputs @ jnp.array([1.0, -2.0, 0.5]) + 0.1 * noise
    parts = (slice(0, 35), slice(35, 45), slice(45, 56))
    return Data(
        *({"input": np.array(inputs[part]), "target": np.array(targets[part])} for part in parts)
    )


def squared_errors(params, batch):
    return (batch["input"] @ params - batch["target"]) ** 2


def squared_error(params, state, batch, key):
    del key
    return jnp.mean(squared_errors(params, batch)), state


def measure(variables, batch):
    weight = batch["weight"]
    total = jnp.sum(weight * squared_errors(variables.params, batch))
    return {"loss": total, "weight": jnp.sum(weight)}, variables.state


def make_regression(name="regression", preset="cpu"):
    return Task(
        name=name,
        preset=preset,
        load=load_regression,
        fake=lambda: load_regression(None),
        init=lambda key: Variables(jax.random.normal(key, (3,)), {}),
        gradient=gradient_of(squared_error),
        measure=measure,
        metric=Metric("loss", "squared error", higher_is_better=False),
        protocol=PROTOCOL,
        parameters=3,
    )


PROTOCOL = Protocol(
    batch_size=8,
    epochs=4,
    schedule="constant",
    learning_rates=dict.fromkeys(OPTIMIZERS, 0.05),
    weight_decay=None,
)
TRAINING = constant.Training(
    protocol=PROTOCOL,
    learning_rates=dict.fromkeys(OPTIMIZERS, 0.05),
    origin="made up",
    early_epoch=2,
    target_loss=0.5,
)


@pytest.fixture(scope="session")
def regression():
    return make_regression()


@pytest.fixture(scope="module")
def known_regression():
    """Makes ``--task regression`` known while a module is tested."""
    row = Row("a linear regression", Recipe(f"{__name__}:make_regression"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "regression", row)
        patch.setitem(constant._TRAININGS, "regression", TRAINING)
        yield
