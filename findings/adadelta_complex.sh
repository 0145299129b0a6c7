#!/usr/bin/env bash
# optax 0.2.8, jax 0.10.2: Adadelta on complex weights.
# Guess: as Adam, AdaBelief, Yogi, RMSprop, AdaGrad, RAdam, AMSGrad, Adamax, Adan, NovoGrad and Lamb do, it takes the square of the
# modulus, so that weights and gradients that are all turned by a phase give a trajectory that is turned by it.
# What happens: Adadelta squares the complex gradient itself. Its second moments are complex, cancel between phases, and another
# choice of the phase is another training run; all the others agree to 1e-6.
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

NAMES = "adam adabelief yogi rmsprop adagrad radam amsgrad adamax adan novograd lamb adadelta".split()
keys = jax.random.split(jax.random.key(0), 10)
gradients = [jax.random.normal(key, (4,), jnp.complex64) for key in keys]


def trained(tx, phase):
    turn = jnp.exp(1j * phase).astype(jnp.complex64)
    params = turn * jnp.ones(4, jnp.complex64)
    state = tx.init(params)
    for gradient in gradients:
        updates, state = tx.update(turn * gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params / turn


apart = {}
for name in NAMES:
    tx = getattr(optax, name)(0.1)
    apart[name] = float(jnp.abs(trained(tx, 0.0) - trained(tx, 0.7)).max())
print("optax", optax.__version__, "jax", jax.__version__)
for name, distance in apart.items():
    print(f"{name:10} {distance:.1e}")
others = max(distance for name, distance in apart.items() if name != "adadelta")
sys.exit(not (others < 1e-5 and apart["adadelta"] > 1e-3))
PYTHON
