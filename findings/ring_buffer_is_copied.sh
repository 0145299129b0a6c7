#!/usr/bin/env bash
# jax 0.10.2 on a CPU: a ring buffer that is an argument, donated, and a result of a jitted step.
# Guess: a step that takes out the oldest entry and puts the new one in its place touches one entry, whatever the length. A
# ring with one entry more, which is written first and then read, needs the same and a bit more memory.
# What happens: the first makes a copy of the whole ring (temporaries grow with its length), because nothing orders the read
# before the write. The second, larger one copies nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2
JAX_PLATFORMS=cpu "$folder/env/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp

SIZE = 100_000


def exchanged(ring, position, weights):
    slot = position % ring.shape[0]
    oldest = jax.lax.dynamic_index_in_dim(ring, slot, keepdims=False)
    ring = jax.lax.dynamic_update_index_in_dim(ring, jnp.sin(weights), slot, 0)
    return ring, position + 1, weights - oldest


def written_first(ring, position, weights):
    ring = jax.lax.dynamic_update_index_in_dim(ring, jnp.sin(weights), position % ring.shape[0], 0)
    oldest = jax.lax.dynamic_index_in_dim(ring, (position + 1) % ring.shape[0], keepdims=False)
    return ring, position + 1, weights - oldest


def temporaries(step, length):
    ring = jax.ShapeDtypeStruct((length, SIZE), jnp.float32)
    position, weights = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((SIZE,), jnp.float32)
    compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(ring, position, weights).compile()
    return compiled.memory_analysis().temp_size_in_bytes


print("jax", jax.__version__, "- temporaries in units of one entry")
found = {
    (step.__name__, delay): temporaries(step, delay + extra) / (4 * SIZE)
    for step, extra in ((exchanged, 0), (written_first, 1))
    for delay in (4, 16)
}
for (name, delay), size in found.items():
    print(f"{name}, {delay} entries in flight: {size:.1f}")
copied = found["exchanged", 4] >= 4 and found["exchanged", 16] >= 16
sys.exit(not (copied and max(found["written_first", 4], found["written_first", 16]) < 1))
PYTHON
