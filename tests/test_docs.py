"""The documentation keeps its promises: every example runs."""

import documents
import isolated
import pytest

PAGES = sorted((documents.ROOT / "docs").glob("*.md"))
WITH_EXAMPLES = [page for page in PAGES if documents.code_blocks(page, "python")]


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.stem)
def test_examples_run(page, tmp_path):
    """Each page on its own, on eight devices, in a directory of its own; warnings are errors."""
    assert isolated.run(documents.run, str(page), tmp_path, devices=8) > 0
