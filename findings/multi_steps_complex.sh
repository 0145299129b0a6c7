#!/usr/bin/env bash
# optax 0.2.8, jax 0.10.2: optax.MultiSteps with complex parameters.
# Guess: two micro-gradients 1+2i and 3+4i count as their mean, 2+3i; SGD with rate 1 moves by -2-3i.
# What happens: it moves by -2-2i. The running mean is kept in float32, so the imaginary part of every micro-gradient but the
# last is dropped; the last is added in its own dtype. Real parts are right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 optax==0.2.8
"$folder/env/bin/python" - <<'PYTHON'
import sys
import warnings

import jax
import jax.numpy as jnp
import optax

warnings.simplefilter("ignore")
tx = optax.MultiSteps(optax.sgd(1.0), every_k_schedule=2)
params = jnp.zeros(1, jnp.complex64)
state = tx.init(params)
for gradient in (1 + 2j, 3 + 4j):
    updates, state = tx.update(jnp.array([gradient], jnp.complex64), state, params)
print("optax", optax.__version__, "jax", jax.__version__)
print("update after both micro-steps:", complex(updates[0]), "; minus their mean:", -(2 + 3j))
sys.exit(complex(updates[0]) != -2 - 2j)
PYTHON
