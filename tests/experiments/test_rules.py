"""The rules of direction of ``experiments/README.md``, read off the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
STUDIES = EXPERIMENTS / "studies"
FILES = sorted(EXPERIMENTS.rglob("*.py"))
IN_STUDIES = sorted(STUDIES.rglob("*.py"))
BELOW = [path for path in FILES if STUDIES not in path.parents and path.stem != "cli"]
SLOW = {"jax", "flax", "optax", "numpy", "scipy", "sklearn", "matplotlib", "rich", "xgrad_optax"}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_for_types(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(path, *, at_once=False):
    """The modules that a file imports; ``at_once``: only those that its own import needs."""

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if is_for_types(child) or (at_once and isinstance(child, ast.FunctionDef)):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, "imports name the module in full"
                yield child.module
                # A name may be a module of the package.
                yield from (f"{child.module}.{alias.name}" for alias in child.names)
            yield from walk(child)

    return set(walk(ast.parse(path.read_text("utf-8"))))


def within(module, package):
    return module == package or module.startswith(f"{package}.")


def names(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize(
    "path", sorted(STUDIES.glob("*/**/*.py")), ids=lambda path: module_of(path)
)
def test_no_study_imports_another(path):
    own = f"experiments.studies.{path.relative_to(STUDIES).parts[0]}"
    others = [name for name in imports(path) if within(name, "experiments.studies")]
    assert all(within(name, own) for name in others if name != "experiments.studies")


@pytest.mark.parametrize("path", BELOW, ids=lambda path: module_of(path))
def test_nothing_below_imports_the_studies(path):
    assert not [name for name in imports(path) if within(name, "experiments.studies")]


@pytest.mark.parametrize("path", sorted(STUDIES.rglob("work.py")), ids=lambda p: p.parent.name)
def test_work_never_knows_the_page(path):
    seen, todo = set(), [path]
    while todo:
        file = todo.pop()
        seen.add(file)
        files = (ROOT / f"{name.replace('.', '/')}.py" for name in imports(file))
        todo += [each for each in files if each in IN_STUDIES and each not in seen]
    assert "page.py" not in {file.name for file in seen}
    assert not any(within(name, "experiments.page") for file in seen for name in imports(file))


@pytest.mark.parametrize("path", sorted(STUDIES.rglob("ask.py")), ids=lambda p: p.parent.name)
def test_asking_imports_nothing_slow(path):
    """Neither the file nor what it imports, as far as importing it runs."""
    seen, todo = set(), [path]
    while todo:
        file = todo.pop()
        seen.add(file)
        found = imports(file, at_once=True)
        assert not {name.partition(".")[0] for name in found} & SLOW, file
        files = (ROOT / f"{name.replace('.', '/')}.py" for name in found)
        packages = (ROOT / name.replace(".", "/") / "__init__.py" for name in found)
        todo += [each for each in (*files, *packages) if each in FILES and each not in seen]
    assert len(seen) > 3


def test_the_library_knows_no_experiments_and_flax_only_where_it_must():
    library = sorted((ROOT / "xgrad_optax").rglob("*.py"))
    assert not [p for p in library if any(within(n, "experiments") for n in imports(p))]
    with_flax = [path for path in library if any(within(n, "flax") for n in imports(path))]
    assert names(with_flax) == ["xgrad_optax/linen.py", "xgrad_optax/nnx.py"]


def test_the_layers_below_the_studies_have_one_direction():
    layers = [
        ["errors", "statistics", "tuning", "progress", "provenance", "recipe"],
        ["kinds", "options", "folder", "formats", "figures", "registered", "task", "study"],
        ["page", "around"],
        ["arms"],
        ["compared", "rates", "tested", "curvature", "data", "models"],
        ["problems", "training"],
        ["tasks"],
    ]
    place = {name: number for number, layer in enumerate(layers) for name in layer}
    for path in BELOW:
        own = place.get(path.relative_to(EXPERIMENTS).with_suffix("").parts[0])
        if own is None:
            continue
        for name in imports(path, at_once=True):
            parts = name.split(".")
            if parts[0] == "experiments" and len(parts) > 1:
                assert place.get(parts[1], own) <= own, f"{module_of(path)} imports {name}"
