"""Who may import whom: the five rules of direction, read from the sources."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
EXPERIMENTS = REPOSITORY / "experiments"
LIBRARY = REPOSITORY / "xgrad_optax"
STUDIES = sorted(path.parent for path in (EXPERIMENTS / "studies").glob("*/ask.py"))

# From the bottom up; a module imports only those of its own layer or below.
LAYERS = (
    {"errors", "statistics", "progress", "provenance", "formats", "kinds", "recipe"},
    {"options", "folder", "study", "page", "compared", "figures", "task"},
    {"arms", "data", "models"},
    {"training"},
    {"tasks", "problems"},
    {"studies"},
    {"cli", "__main__"},
)
# Not converted yet: they go where their parts belong.
OLD = {"bench", "arguments", "runs"}


def imported(file):
    """The modules that a file imports anywhere, with what is taken from them."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_of_experiments(file):
    """The parts of ``experiments`` that a file imports, such as ``"training"``."""
    names = (name.split(".") for name in imported(file) if name.startswith("experiments."))
    return {name[1] for name in names}


def layer_of(part):
    (layer,) = (number for number, parts in enumerate(LAYERS) if part in parts)
    return layer


def own_part(file):
    return file.relative_to(EXPERIMENTS).parts[0].removesuffix(".py")


SOURCES = [
    file
    for file in sorted(EXPERIMENTS.rglob("*.py"))
    if own_part(file) not in OLD | {"__init__"} and "results" not in file.parts
]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(EXPERIMENTS)))
def test_nothing_imports_what_is_above_it(file):
    known = {part for parts in LAYERS for part in parts}
    for part in parts_of_experiments(file) & known:
        assert layer_of(part) <= layer_of(own_part(file)), part


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
class TestStudies:
    def test_no_study_imports_another(self, study):
        for file in study.glob("*.py"):
            for name in imported(file):
                if name.startswith("experiments.studies."):
                    assert name.split(".")[2] == study.name, f"{file.name}: {name}"

    def test_what_works_does_not_know_the_page(self, study):
        pages = {"experiments.page", f"experiments.studies.{study.name}.page"}
        if (study / "work.py").exists():
            assert not pages & set(imported(study / "work.py"))


def test_no_question_needs_jax():
    asks = ", ".join(f"experiments.studies.{study.name}.ask" for study in STUDIES)
    code = f"import sys, {asks}; assert not {{'jax', 'flax', 'optax'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_the_library_imports_no_experiments_and_flax_only_for_flax():
    for file in LIBRARY.rglob("*.py"):
        parts = {name.split(".")[0] for name in imported(file)}
        assert "experiments" not in parts, file
        assert "flax" not in parts or file.name in ("nnx.py", "linen.py"), file
