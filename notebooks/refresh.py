"""Executes the notebooks, keeps what they print and draw: ``python notebooks/refresh.py``."""

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from rich.progress import track

DIRECTORY = Path(__file__).resolve().parent
NOTEBOOKS = sorted(DIRECTORY.glob("*.ipynb"))
TIMEOUT = 240  # seconds a cell; a loaded machine may need more than the two minutes promised


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
    client.execute(env=os.environ | {"PYTHONPATH": str(DIRECTORY.parent)})
    notebook.metadata.language_info = {"name": "python"}  # no version: it would change each time
    return notebook


if __name__ == "__main__":
    for notebook_path in track(NOTEBOOKS, "Executing notebooks"):
        nbformat.write(execute(notebook_path), notebook_path)
