#!/usr/bin/env bash
# optax 0.2.8, jax 0.10.2: optax.contrib.schedule_free with bfloat16 weights.
# Guess: once gradients are zero, the weights settle as in float32, up to bfloat16's rounding.
# What happens: in float32 they move by 0.08 in 300 steps, in bfloat16 by 0.28, thirteen times the spacing of the numbers further:
# each step recovers one sequence from the other by a division that rounds the same way again and again.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 optax==0.2.8
JAX_PLATFORMS=cpu "$folder/env/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import optax


def drift(dtype):
    """How far the weights go in 300 steps without gradients, after three with."""
    tx = optax.contrib.schedule_free(optax.sgd(0.1), 0.1)
    params = jnp.linspace(0.5, 2.0, 8, dtype=dtype)
    state = tx.init(params)
    for step in range(303):
        if step == 3:
            before = params
        gradient = jnp.sin(3 * params + step) if step < 3 else jnp.zeros_like(params)
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return jnp.abs(params.astype(jnp.float32) - before.astype(jnp.float32)).max()


print("optax", optax.__version__, "jax", jax.__version__)
single, half = float(drift(jnp.float32)), float(drift(jnp.bfloat16))
print(f"drift in float32: {single:.4f}, in bfloat16: {half:.4f}, spacing of bfloat16 at 2: {2**-6:.4f}")
sys.exit(not half - single > 6 * 2**-6)
PYTHON
