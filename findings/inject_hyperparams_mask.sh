#!/usr/bin/env bash
# optax 0.2.8, jax 0.10.2: optax.inject_hyperparams around an optimizer that takes a mask function.
# Guess: the mask function gets the parameters, as without inject_hyperparams; weights decay, scalars do not.
# What happens: every callable argument is taken for a schedule and called with the step count. A mask that asks for the number
# of dimensions gets a scalar, answers False for it, and False for a whole tree switches weight decay off. Nothing is said.
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

params = {"kernel": jnp.ones((2, 2)), "gain": jnp.ones(())}
no_gradient = jax.tree.map(jnp.zeros_like, params)


def matrices(tree):
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, tree)


def decay_of_one_step(tx):
    updates, _ = tx.update(no_gradient, tx.init(params), params)
    return {name: float(jnp.mean(update)) for name, update in updates.items()}


arguments = dict(learning_rate=0.1, weight_decay=0.5, mask=matrices)
plain = decay_of_one_step(optax.adamw(**arguments))
injected = decay_of_one_step(optax.inject_hyperparams(optax.adamw)(**arguments))
print("optax", optax.__version__, "jax", jax.__version__)
print("without inject_hyperparams:", plain)
print("with inject_hyperparams:   ", injected)
sys.exit(not (plain["kernel"] < 0 and plain["gain"] == 0 and injected["kernel"] == 0))
PYTHON
