#!/usr/bin/env bash
# optax 0.2.8, jax 0.10.2: clip_by_global_norm on float16 gradients.
# Guess: gradients of 300 and 400, far from float16's largest number of 65504, are scaled to a norm of 1: 0.6 and 0.8.
# What happens: squares are taken in float16, where those of 256 and more are infinite; so is the norm, and every gradient becomes zero.
# No NaN and no infinity comes out: a loss scale that looks for them sees nothing, and training stands still. Small gradients
# are the other way round: the norm of 1e-4 and 1e-4 is 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 optax==0.2.8
"$folder/env/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import optax

gradients = jnp.array([300.0, 400.0], jnp.float16)
clip = optax.clip_by_global_norm(1.0)
clipped, _ = clip.update(gradients, clip.init(gradients))
wider, _ = clip.update(gradients.astype(jnp.float32), clip.init(gradients))
small = optax.global_norm(jnp.array([1e-4, 1e-4], jnp.float16))
print("optax", optax.__version__, "jax", jax.__version__)
print("norm", optax.global_norm(gradients), "clipped", clipped, "; in float32", wider, "; norm of small ones", small)
sys.exit(not (jnp.all(clipped == 0) and abs(wider[0] - 0.6) < 1e-3 and small == 0))
PYTHON
