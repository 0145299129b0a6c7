"""A page with a ``{notebook}`` block becomes that notebook, with the outputs that it keeps."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```\{notebook\} (\S+)\n```$", re.MULTILINE)


def insert(app, docname: str, source: list[str]) -> None:
    """Puts the notebook, as Markdown, in place of the block; its path is relative to the page."""
    page = Path(app.env.doc2path(docname))

    def markdown(block: re.Match[str]) -> str:
        path = page.parent / block[1]
        app.env.note_dependency(str(path.resolve()), docname=docname)
        notebook = json.loads(path.read_text(encoding="utf-8"))
        return "\n\n".join(part for cell in notebook["cells"] for part in parts(cell))

    source[0] = BLOCK.sub(markdown, source[0])


def parts(cell: dict[str, Any]) -> Iterator[str]:
    """The text, or the code and what it printed and drew."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield re.sub(r"\((\w+)\.ipynb\)", r"(\1.md)", text)  # links to other notebooks
        return
    yield f"```ipython3\n{text}\n```"
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            picture = "".join(data["image/png"]).strip()
            yield f"![what the cell draws](data:image/png;base64,{picture})"
        elif printed := "".join(output.get("text", data.get("text/plain", ""))):
            yield f"```text\n{printed}\n```"


def setup(app) -> dict[str, bool]:
    """Reads notebooks before pages are parsed."""
    app.connect("source-read", insert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
