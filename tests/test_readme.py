"""README keeps its promises: its Python runs, its two commands are the first two bash blocks."""

import re
import shlex

import numpy as np
import pytest
from documents import ROOT, code_blocks

README = ROOT / "README.md"


def test_python_examples_train(capsys):
    namespace = {"__name__": "readme"}
    for block in code_blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), namespace)
    losses = [float(line) for line in capsys.readouterr().out.split()]
    assert len(losses) == 3
    assert all(np.isfinite(loss) and loss < 0.05 for loss in losses), losses


@pytest.mark.parametrize(
    ("position", "last_words"), [(0, "python -m experiments compare"), (1, "python -m pytest")]
)
def test_the_two_commands_come_first(position, last_words):
    block = code_blocks(README, "bash")[position]
    assert block.count("\n") == 1, "one command line, so that it can be pasted as it is"
    assert block.strip().endswith(last_words)
    assert shlex.split(block)[:5] == ["python", "-m", "pip", "install", "-e"]


def test_links_point_to_files_that_exist():
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert targets
    assert not [t for t in targets if not (ROOT / t).exists()]
