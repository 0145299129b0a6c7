"""Compilation for tests that compile much and compute little."""

import functools

import jax

# Without optimization a network's gradient compiles in a fraction of the time. Results may differ
# in rounding: not for tests that compare bits.
jit_quickly = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)
