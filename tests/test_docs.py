"""The documentation keeps its promises: examples run, references resolve, nothing is left out."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import documents
import isolated
import pytest
from sphinx.util.inventory import InventoryFile

import xgrad_optax

DOCS = documents.ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
WITH_EXAMPLES = [page for page in PAGES if documents.code_blocks(page, "python")]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.stem)
def test_examples_run(page, tmp_path):
    """Each page on its own, on eight devices, in a directory of its own; warnings are errors."""
    assert isolated.run(documents.run, str(page), tmp_path, devices=8) > 0


# --------------------------------------------------------------------------------------------------
# The site
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Built strictly: a reference that does not resolve is an error, as is any other warning."""
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", DOCS, directory]
    result = subprocess.run(
        command, cwd=documents.ROOT, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return directory


def test_every_page_is_built(site):
    for page in PAGES:
        built = site / page.relative_to(DOCS).with_suffix(".html")
        assert "<h1>" in built.read_text(encoding="utf-8")


def test_every_public_name_has_an_entry(site):
    documented = documented_names(site)
    missing = [
        f"{module.__name__}.{name}"
        for module in public_modules()
        for name in public_names(module)
        if not documented & homes(module, name)
    ]
    assert not missing


def documented_names(site):
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    return {name for kind in inventory.data for name in inventory.data[kind]}


def public_modules():
    """The package and every module or subpackage of it without an underscore."""
    found = pkgutil.iter_modules(xgrad_optax.__path__, "xgrad_optax.")
    names = [info.name for info in found if "._" not in info.name]
    return [xgrad_optax, *map(importlib.import_module, names)]


def public_names(module):
    """``__all__``, or else the functions and classes defined there without an underscore."""
    if hasattr(module, "__all__"):
        return module.__all__
    return [
        name
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]


def homes(module, name):
    """Where readers may find it: under any public module that has this very object."""
    value = getattr(module, name)
    return {f"{m.__name__}.{name}" for m in public_modules() if getattr(m, name, None) is value}


def test_site_needs_no_network_and_draws_every_formula(site):
    fetched = re.compile(r'<(?:script|link|img)[^>]*(?:src|href)="https?://')
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not fetched.search(text), page
        for formula in re.findall(r"<math.*?</math>", text, re.DOTALL):
            shown = re.sub(r"<[^>]*>", "", formula)
            assert not re.search(r"\\[a-zA-Z]", shown), (page, shown)
    assert "<math" in (site / "theory.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("notebook", documents.NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_pages_with_their_pictures(site, notebook):
    page = (site / "notebooks" / f"{notebook.stem}.html").read_text(encoding="utf-8")
    drawn = notebook.read_text(encoding="utf-8").count('"image/png"')
    assert page.count('alt="what the cell draws"') == drawn > 0
    assert "find_spec" in page


def test_names_of_tests_lead_to_their_source(site):
    page = (site / "composition.html").read_text(encoding="utf-8")
    links = re.findall(r'href="(_tests/\w+\.html)#(\w+)"', page)
    assert len(links) > 30
    for file, function in links:
        assert f'id="{function}"' in (site / file).read_text(encoding="utf-8")


# --------------------------------------------------------------------------------------------------
# Claims that name the test behind them
# --------------------------------------------------------------------------------------------------

TEST_NAME = re.compile(r"`(\w+\.py)::(\w+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tests_that_a_page_names_exist(page):
    for file, function in TEST_NAME.findall(page.read_text(encoding="utf-8")):
        assert function in functions_of(documents.ROOT / "tests" / file)


def functions_of(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_of_the_composition_table_names_a_test():
    text = (DOCS / "composition.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|") and "test |" not in line]
    rows = [row for row in rows if not set(row) <= set("|- ")]
    assert len(rows) > 30
    assert not [row for row in rows if not TEST_NAME.search(row)]


def test_table_counts_the_lines_that_a_real_script_changes():
    page = DOCS / "real-script.md"
    (script,) = documents.code_blocks(page, "python")
    lines = f"{script.count('# was:')} changed, {script.count('# new')} new"
    assert f"| lines in the script below | | {lines} |" in page.read_text(encoding="utf-8")


def test_which_weights_to_save_is_said_in_the_same_words_everywhere():
    sentence = (
        "Evaluate, export and average θ;"
        " to resume, save both, weights and optimizer state, as they are."
    )
    pages = [DOCS / f"{name}.md" for name in ("real-script", "loops", "checkpoints")]
    for page in [documents.ROOT / "README.md", *pages]:
        assert sentence in page.read_text(encoding="utf-8")
