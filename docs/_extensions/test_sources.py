"""Tests that a page names, as ``test_file.py::test_name``, become links to their source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.osutil import relative_uri

TESTS = Path(__file__).resolve().parents[2] / "tests"
TEST_NAME = re.compile(r"(\w+)\.py::(\w+)")


def page_of(file: str) -> str:
    """The page with the source of ``tests/<file>.py``."""
    return f"_tests/{file}"


class LinkTests(SphinxPostTransform):
    """Puts a link around the name of each test."""

    default_priority = 500
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Replaces the names of one page."""
        here = self.app.builder.get_target_uri(self.env.docname)
        for literal in list(self.document.findall(nodes.literal)):
            if not (name := TEST_NAME.fullmatch(literal.astext())):
                continue
            file, function = name.groups()
            there = self.app.builder.get_target_uri(page_of(file))
            uri = f"{relative_uri(here, there)}#{function}"
            literal.replace_self(nodes.reference("", "", literal.deepcopy(), refuri=uri))


def source_pages(app) -> Iterator[tuple[str, dict[str, str], str]]:
    """One page for each file of tests, with an anchor at each test."""
    for path in sorted(TESTS.glob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        lines = app.builder.highlighter.highlight_block(source, "python").split("\n")
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef):
                # The first line of the highlighted block has its tags in front.
                lines[node.lineno - 1] = f'<span id="{node.name}"></span>{lines[node.lineno - 1]}'
        body = f"<h1>tests/{path.name}</h1>" + "\n".join(lines)
        yield page_of(path.stem), {"title": path.name, "body": body}, "page.html"


def setup(app) -> dict[str, bool]:
    """Links the tests, and makes the pages that the links lead to."""
    app.add_post_transform(LinkTests)
    app.connect("html-collect-pages", source_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
