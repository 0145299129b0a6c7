#!/usr/bin/env bash
# optax 0.2.8, jax 0.10.2: optax.contrib.prodigy when the first gradient is zero, as for weights that the first batch does not use.
# Guess: the first step moves nothing, the next ones train as ever. (A zero gradient later does no harm.)
# What happens: the first step divides zero by zero, and every update from then on is NaN.
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


def updates_after(gradients):
    tx = optax.contrib.prodigy()
    params = jnp.ones(3)
    state = tx.init(params)
    for gradient in gradients:
        updates, state = tx.update(jnp.full(3, gradient), state, params)
    return updates


print("optax", optax.__version__, "jax", jax.__version__)
later, first = updates_after([1.0, 0.0, 1.0]), updates_after([0.0, 1.0, 1.0, 1.0])
print("zero at the second step:", later)
print("zero at the first step: ", first)
sys.exit(not (bool(jnp.isfinite(later).all()) and bool(jnp.isnan(first).all())))
PYTHON
