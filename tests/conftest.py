"""Strict numerics for every test: no silent promotion of ranks or dtypes."""

import jax
import pytest
from hypothesis import HealthCheck, settings

# Compilation makes the first example slow, so no deadline; the same examples on every machine.
settings.register_profile(
    "xgrad_optax",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("xgrad_optax")


@pytest.fixture(autouse=True)
def strict_numerics():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield
