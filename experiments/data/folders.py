"""Where data lie that TFDS does not have: plain files beside its data sets."""

import os
from collections.abc import Sequence
from pathlib import Path

from experiments.data.tfds import data_directory
from experiments.errors import UsageError


def variable_of(kind: str) -> str:
    """Returns the environment variable that names the folder of a kind of data."""
    return f"XGRAD_{kind.upper()}_DIR"


def parents_of(kind: str, data_dir: str | None) -> Sequence[Path]:
    """Returns the folders in which data of a kind are looked for.

    Args:
        kind: ``"text"`` or ``"graphs"``: the folder ``variable_of(kind)`` if that is set, else the
            folder of this name within or beside the one that holds TFDS's data sets.
        data_dir: the folder that holds TFDS's data sets, None for the usual ones.
    """
    given = os.environ.get(variable_of(kind))
    if given:
        return (Path(given),)
    images = Path(data_directory(data_dir))
    return images / kind, images.parent / kind


def find_data(kind: str, names: Sequence[str], data_dir: str | None) -> Path:
    """Returns the first file or folder of some names that exists.

    Args:
        kind: as for :func:`parents_of`.
        names: what it may be called.
        data_dir: the folder that holds TFDS's data sets, None for the usual ones.

    Raises:
        UsageError: there is none.
    """
    candidates = [parent / name for parent in parents_of(kind, data_dir) for name in names]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    looked_for = ", ".join(str(candidate) for candidate in candidates)
    raise UsageError(
        f"no {kind} {names[0]!r}: none of these exists: {looked_for}; set {variable_of(kind)} to "
        f"the folder that holds {' or '.join(names)}"
    )


def file_in(folder: Path, names: Sequence[str], kind: str) -> Path:
    """Returns the first of the named files that a folder of :func:`find_data` has.

    Raises:
        UsageError: it has none.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(
        f"{folder} has no file {' or '.join(names)}; put it there, or set {variable_of(kind)} to "
        f"a folder whose {folder.name} has it"
    )
