"""Executes the notebooks, keeps what they print and draw: ``python notebooks/refresh.py``."""

import base64
import io
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image
from rich.progress import track

DIRECTORY = Path(__file__).resolve().parent
NOTEBOOKS = sorted(DIRECTORY.glob("*.ipynb"))
# Notebooks compile much and compute little: without optimization they take a third less time.
_QUICKLY = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
TIMEOUT = 1200  # seconds a cell: against cells that hang, not against machines that are busy


def execute(path: Path) -> nbformat.NotebookNode:
    """Runs a notebook from top to bottom in a fresh kernel, with the package of this checkout.

    Args:
        path: the notebook; the file is left as it is.

    Returns:
        The notebook with the outputs of this run.

    Raises:
        CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env=os.environ | {"PYTHONPATH": str(DIRECTORY.parent), "XLA_FLAGS": _QUICKLY})
    notebook.metadata.language_info = {"name": "python"}  # no version: it would change each time
    return notebook


def shrink_pictures(notebook: nbformat.NotebookNode, colors: int = 128) -> None:
    """Gives each picture in the outputs a palette, which halves its size and is not seen."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if "image/png" in output.get("data", {}):
            picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
            palette = picture.convert("RGB").quantize(colors, dither=Image.Dither.NONE)
            written = io.BytesIO()
            palette.save(written, "PNG", optimize=True)
            output.data["image/png"] = base64.b64encode(written.getvalue()).decode()


def refresh(path: Path) -> None:
    """Executes a notebook and writes its outputs into the file."""
    notebook = execute(path)
    shrink_pictures(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for notebook_path in track(NOTEBOOKS, "Executing notebooks"):
        refresh(notebook_path)
