"""The table of docs/how-to-choose-s.md is the formula's; test_docs.py runs the examples."""

import re

import documents
import numpy as np

from xgrad_optax.stability import best_horizon, stationary_variance

PAGE = documents.ROOT / "docs" / "how-to-choose-s.md"


def test_the_table_of_choices_is_the_formulas():
    rows = re.findall(r"^\| ([\d.]+) \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
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
