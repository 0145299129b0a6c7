"""The page on costs: its code runs, its links lead somewhere, its figures are those measured."""

import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from xgrad_optax import base_params

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cost.md"
TEXT = PAGE.read_text(encoding="utf-8")
RESULTS = ROOT / "experiments" / "results"


def test_python_example_runs():
    (block,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    namespace = {"__name__": "page"}
    exec(compile(block, str(PAGE), "exec"), namespace)
    params = jnp.ones(3)
    state = namespace["tx"].init(params)
    updates, state = namespace["tx"].update(params, state, params)
    # Adam's first step is -γ, and the closed form predicts another one.
    np.testing.assert_allclose(updates, -2e-3, atol=1e-7)
    np.testing.assert_allclose(base_params(params, state), 1 - 1e-3, atol=1e-7)


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?://)([^)#]+)\)", TEXT))
def test_links_lead_somewhere(target):
    assert (PAGE.parent / target).exists()


def in_params(variant, optimizer):
    """Bytes accessed on the MLP as a multiple of the parameters' bytes, from the kept results."""
    lines = (RESULTS / "bench-cpu.jsonl").read_text(encoding="utf-8").splitlines()
    (record,) = (
        record
        for record in map(json.loads, lines[1:])
        if (record["model"], record["optimizer"], record["variant"]) == ("mlp", optimizer, variant)
    )
    return record["exact"]["bytes_accessed"] / record["params_bytes"]


@pytest.mark.parametrize(
    ("row", "variant"),
    [
        ("plain", "plain"),
        ("explicit, closed form", "closed-form"),
        ("drop-in", "drop-in"),
        ("drop-in with the closed form", "drop-in-closed-form"),
    ],
)
def test_table_of_bytes_is_that_of_the_results(row, variant):
    (cells,) = re.findall(rf"^\| {re.escape(row)} \| ([\d.]+)[^|]*\| ([\d.]+)", TEXT, re.MULTILINE)
    for cell, optimizer in zip(cells, ("sgdm", "adam"), strict=True):
        assert float(cell) == round(in_params(variant, optimizer), 1)
