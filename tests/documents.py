"""The code blocks of Markdown files: found, and run as a reader would run them."""

import os
import re
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_blocks(path, language):
    """The fenced blocks of one language, in order; those indented below other text not."""
    text = Path(path).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(path, directory):
    """Executes the Python blocks one after the other, in this directory, and counts them."""
    os.chdir(directory)
    warnings.simplefilter("error")
    namespace = {"__name__": "document"}
    blocks = code_blocks(path, "python")
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"{path}, block {number}", "exec"), namespace)
    return len(blocks)
