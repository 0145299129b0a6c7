#!/usr/bin/env bash
# flax 0.12.8, jax 0.10.2: nnx.SpectralNorm around a layer.
# Guess: a forward pass computes with a normalized copy of the kernel; the parameter itself changes in optimizer steps only
# (as flax.linen.SpectralNorm does).
# What happens: the forward pass writes the normalized kernel back into the parameter. Weights that were just loaded, averaged or
# set by an optimizer are another network's after one pass, without any update.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 flax==0.12.8
"$folder/env/bin/python" - <<'PYTHON'
import sys

import flax
import jax
import jax.numpy as jnp
from flax import nnx

rngs = nnx.Rngs(0)
norm = nnx.SpectralNorm(nnx.Linear(3, 4, use_bias=False, rngs=rngs), rngs=rngs)
kernel = norm.layer_instance.kernel
kernel[...] = 10 * kernel[...]


def largest_singular_value():
    return float(jnp.linalg.norm(kernel[...], 2))


before = largest_singular_value()
norm(jnp.ones((2, 3)), update_stats=True)
after = largest_singular_value()
print("flax", flax.__version__, "jax", jax.__version__)
print("largest singular value of the parameter, before and after a forward pass:", before, after)
sys.exit(not after < before / 5)
PYTHON
