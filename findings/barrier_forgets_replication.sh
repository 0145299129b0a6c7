#!/usr/bin/env bash
# jax 0.10.2: jax.lax.optimization_barrier in jax.shard_map with check_vma=True (the default).
# Guess: a barrier changes neither values nor types; a mean over the devices that goes through it together with a value that
# differs between devices is still the same on all of them and may be returned with the spec P().
# What happens: everything that goes in together comes out "varying"; returning the mean with P() is a ValueError. So an
# all-reduce cannot be ordered behind another computation without giving up the check.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2
JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=2 "$folder/env/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P

mesh = jax.make_mesh((2,), ("i",))
x = jax.device_put(jnp.arange(2.0), NamedSharding(mesh, P("i")))


def step(barrier):
    def body(x):
        mean = jax.lax.pmean(x, "i")
        return jax.lax.optimization_barrier((mean, x)) if barrier else (mean, x)

    return jax.jit(jax.shard_map(body, mesh=mesh, in_specs=P("i"), out_specs=(P(), P("i"))))


print("jax", jax.__version__)
print("without a barrier:", step(barrier=False)(x)[0])
try:
    print("with a barrier:", step(barrier=True)(x)[0])
    refused = False
except ValueError as error:
    print("with a barrier:", str(error).splitlines()[0])
    refused = True
sys.exit(not refused)
PYTHON
