"""The notebooks run from top to bottom, end in an assertion, and stay small."""

import re

import nbformat
import pytest
from packaging.requirements import Requirement

from notebooks.refresh import NOTEBOOKS, execute

LARGEST = 150_000  # bytes
EACH_NOTEBOOK = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@EACH_NOTEBOOK
def test_runs(path):
    """A cell that raises, an assertion that fails among others, is an error here."""
    kept = [len(cell.outputs) for cell in code_cells(path)]
    cells = [cell for cell in execute(path).cells if cell.cell_type == "code"]
    assert [len(cell.outputs) for cell in cells] == kept, "python notebooks/refresh.py"
    assert not [out for cell in cells for out in cell.outputs if out.get("name") == "stderr"]


@EACH_NOTEBOOK
def test_installs_the_package_first_and_asserts_at_last(path):
    first, *_, last = code_cells(path)
    assert re.search(r'find_spec\("xgrad_optax"\) is None:\n.*\n +%pip install', first.source)
    assert re.search(r"^assert ", last.source, re.MULTILINE)


@EACH_NOTEBOOK
@pytest.mark.parametrize("source", ["", "git+https://example.org/xgrad_optax"])
def test_installs_from_the_checkout_or_an_address_and_never_by_name(path, source):
    """Nobody keeps the name for us on a package index: whoever takes it there would be run."""
    first = code_cells(path)[0].source
    (expression,) = re.findall(r"package = (.*)", first)
    requirement = eval(expression, {"SOURCE": source})
    if source:
        assert Requirement(requirement).url == source
    else:
        assert requirement == "..[experiments]"  # a directory, as pip reads it
    assert re.findall(r"%pip install (.*)", first) == ['--quiet "{package}"']


@EACH_NOTEBOOK
def test_keeps_small_outputs(path):
    assert path.stat().st_size < LARGEST
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
