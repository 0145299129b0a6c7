"""Strict numerics for every test, no silent promotion of ranks or dtypes, and quick compilation."""

import os

import jax
import pytest
from hypothesis import HealthCheck, settings

from tests.compilation import quick_compilation

# Tests compile much and compute little. Without these two a loop of some dozen small operations
# compiles in a fifth of the time, to code that is as fast and as optimized. JAX reads the variable
# when it first uses a device, and processes that tests start inherit it. XLA ends the process over
# a name that it does not know, so other versions go without.
if jax.__version_info__ < (0, 11):
    os.environ["XLA_FLAGS"] = " ".join(
        (
            "--xla_cpu_use_fusion_emitters=false",
            "--xla_cpu_parallel_codegen_split_count=1",
            os.environ.get("XLA_FLAGS", ""),
        )
    )

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


@pytest.fixture(scope="module")
def quickly_compiled():
    """For modules that compile much, compute little, and compare no bits."""
    with quick_compilation():
        yield
