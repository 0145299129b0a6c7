"""The package as a newcomer meets it: wheel, import, dependencies, serialization."""

import importlib.metadata
import json
import re
import subprocess
import sys
import venv
from pathlib import Path

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xgrad_optax
import xgrad_optax.linen  # registers the states with flax.serialization

ROOT = Path(__file__).resolve().parent.parent

QUICK_START = """
import jax, jax.numpy as jnp, optax, xgrad_optax
assert "site-packages" in xgrad_optax.__file__, xgrad_optax.__file__
lookahead_params, tx = xgrad_optax.adamw(0.1, s=1)
params = {"w": jnp.zeros(3)}
opt_state = tx.init(params)
loss_fn = lambda p: jnp.mean((p["w"] - 1.0) ** 2)
for _ in range(60):
    grads = jax.grad(loss_fn)(lookahead_params(params, opt_state))
    updates, opt_state = tx.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
assert loss_fn(params) < 1e-2
"""


def run_python(code, cwd, python=sys.executable):
    return subprocess.run(
        [python, "-c", code], cwd=cwd, check=True, capture_output=True, text=True, timeout=300
    ).stdout


def test_wheel_runs_the_quick_start_from_another_directory(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    # jax and optax come from the environment that runs the tests; only our wheel is installed.
    venv.create(tmp_path / "env", with_pip=True, system_site_packages=False)
    python = str(tmp_path / "env" / "bin" / "python")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
        timeout=300,
    )
    # Appended, so that the environment's own packages come first: the wheel, not the checkout.
    parents = [p for p in sys.path if p.endswith("site-packages")]
    run_python(f"import sys; sys.path += {parents!r}\n{QUICK_START}", tmp_path, python)
    files = run_python(
        "import importlib.metadata as m\nprint('\\n'.join(map(str, m.files('xgrad_optax'))))",
        tmp_path,
        python,
    ).split()
    assert "xgrad_optax/py.typed" in files
    assert not [f for f in files if f.startswith(("tests", "experiments"))]


def test_core_depends_on_jax_and_optax_only():
    requirements = importlib.metadata.requires("xgrad_optax") or []
    core = {re.split(r"[<>=~\[ ]", r)[0] for r in requirements if "extra ==" not in r}
    assert core == {"jax", "optax"}


def test_import_brings_in_nothing_but_optax_and_ourselves(tmp_path):
    code = (
        "import sys, json, optax\n"
        "before = set(sys.modules)\n"
        "import xgrad_optax\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    new_modules = json.loads(run_python(code, tmp_path))
    foreign = [m for m in new_modules if m.split(".")[0] != "xgrad_optax"]
    # A few modules of the standard library are cheap; everything else optax has loaded already.
    assert not [m for m in foreign if m.split(".")[0] not in sys.stdlib_module_names]
    assert "xgrad_optax.linen" not in new_modules


@pytest.mark.parametrize("module", ["nnx", "linen"])
def test_without_flax_one_line_says_which_extra(module):
    code = f"""
import sys
sys.modules["flax"] = None  # as if it were not installed
try:
    import xgrad_optax.{module}
except ModuleNotFoundError as error:
    print(error)
"""
    message = run_python(code, ROOT)
    assert message.count("\n") == 1
    assert f"xgrad_optax.{module} needs Flax" in message
    assert "'.[flax]'" in message


def test_version_is_the_same_everywhere():
    assert xgrad_optax.__version__ == importlib.metadata.version("xgrad_optax")


def test_public_names_exist_and_have_docstrings():
    for name in xgrad_optax.__all__:
        assert getattr(xgrad_optax, name).__doc__, name


def trained_state(tx):
    params = {"w": jnp.arange(3.0), "b": jnp.ones(())}
    state = tx.init(params)
    for k in range(3):
        grads = jax.tree.map(lambda p, k=k: jnp.sin(p + k), params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize(
    "tx",
    [
        xgrad_optax.adam(0.1).tx,
        xgrad_optax.with_weight_prediction(optax.sgd(0.1), optax.constant_schedule(2.0)).tx,
        xgrad_optax.with_weight_prediction(
            optax.adam(0.1), predictor=xgrad_optax.zero_gradient()
        ).tx,
        xgrad_optax.xgrad(optax.adam(0.1)),
        optax.inject_hyperparams(lambda s: xgrad_optax.adam(0.1, s=s).tx)(s=1.0),
    ],
    ids=["closed form", "last_update", "zero_gradient", "drop-in", "injected"],
)
def test_flax_serialization_round_trip(tx):
    params, state = trained_state(tx)
    written = flax.serialization.to_bytes(state)
    restored = flax.serialization.from_bytes(tx.init(params), written)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
