"""The pages on stability keep their promises: their Python runs, and their table is the formula's."""

import re
from pathlib import Path

import numpy as np
import pytest

from xgrad_optax.stability import best_horizon, stationary_variance

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = pytest.mark.parametrize("page", ["stability.md", "how-to-choose-s.md"])


def read(page):
    return (DOCS / page).read_text(encoding="utf-8")


@PAGES
def test_python_examples_run(page):
    blocks = re.findall(r"^```python\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)


@PAGES
def test_links_point_to_files_that_exist(page):
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", read(page))
    assert targets
    assert not [target for target in targets if not (DOCS / target).exists()]


def test_the_table_of_choices_is_the_formulas():
    rows = re.findall(r"^\| ([\d.]+) \|(.*)\|$", read("how-to-choose-s.md"), re.MULTILINE)
    rows = {float(a): cells for a, cells in rows if cells.count("|") == 4}
    assert list(rows) == [0.01, 0.1, 0.3, 1, 3]
    for a, cells in rows.items():
        variances = stationary_variance(a, 1.0, np.array([1.0, 2.0, 4.0]), 0.9)
        expected = [
            *(variances / stationary_variance(a, 1.0, 0, 0.9)),
            1.9 / a - 0.5,
            best_horizon(a, 1.0, 0.9),
        ]
        np.testing.assert_allclose([float(cell) for cell in cells.split("|")], expected, atol=6e-3)
