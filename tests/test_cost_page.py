"""The page on costs: its code runs."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from xgrad_optax import base_params

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cost.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_python_example_runs():
    (block,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    namespace = {"__name__": "page"}
    exec(compile(block, str(PAGE), "exec"), namespace)
    params = jnp.ones(3)
    state = namespace["tx"].init(params)
    updates, state = namespace["tx"].update(params, state, params)
    # Adam's first step is -γ, and the closed form predicts another one.
    np.testing.assert_allclose(updates, -2e-3, atol=1e-7)
    np.testing.assert_allclose(base_params(params + updates, state), 1 - 1e-3, atol=1e-7)
