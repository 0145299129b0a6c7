"""What takes less time than the real thing, for tests that compile much and compute little."""

import functools

import jax
import numpy as np

from experiments.task import Variables

# Without optimization a network's gradient compiles in a fraction of the time. Results may differ
# in rounding: not for tests that compare bits.
jit_quickly = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


def random_variables(task):
    """Returns variables much as ``task.init`` draws them, which takes longer to compile."""
    generator = np.random.default_rng(0)
    params, state = jax.eval_shape(task.init, jax.random.key(0))

    def drawn(path, leaf):
        if path[-1].key in ("bias", "scale"):
            return np.full(leaf.shape, path[-1].key == "scale", np.float32)
        inputs = max(1, np.prod(leaf.shape[:-1]))
        return generator.normal(0, inputs**-0.5, leaf.shape).astype(np.float32)

    state = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.full(leaf.shape, getattr(path[-1], "key", None) == "var", leaf.dtype),
        state,
    )
    return Variables(jax.tree_util.tree_map_with_path(drawn, params), state)
