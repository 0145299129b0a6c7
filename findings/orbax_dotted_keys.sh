#!/usr/bin/env bash
# orbax-checkpoint 0.12.8, jax 0.10.2: a dictionary that has a key with a dot.
# Guess: {"a.b": 1, "a": {"b": 2}} is saved and restored as it is; if the names of the arrays cannot be told apart, saving refuses.
# What happens: both arrays are stored under the name "a.b", one over the other. Saving and restoring succeed without a word, and
# both leaves come back as 2. (Names of modules and groups with dots, as other frameworks write them, are such keys.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 orbax-checkpoint==0.12.8
"$folder/env/bin/python" - "$folder/checkpoint" <<'PYTHON'
import importlib.metadata
import sys

import jax.numpy as jnp
import orbax.checkpoint as ocp

tree = {"a.b": jnp.array(1.0), "a": {"b": jnp.array(2.0)}}
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(sys.argv[1], tree)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(sys.argv[1], tree)
print("orbax-checkpoint", importlib.metadata.version("orbax-checkpoint"))
print("saved", tree, "restored", restored)
sys.exit(not (float(restored["a.b"]) == 2.0 and float(restored["a"]["b"]) == 2.0))
PYTHON
