"""Checkpoints of a run by Orbax, from which it goes on bit for bit."""

import contextlib
import functools
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from experiments.training.step import Progress


class Snapshot(NamedTuple):
    """A run cut between two steps.

    Attributes:
        progress: parameters and states.
        notes: the rest, as JSON: place in the data, what was measured, time spent.
    """

    progress: Progress
    notes: dict[str, Any]


class Checkpoints:
    """The newest snapshot of one run in a folder; half-written ones do not count.

    The folder is made for the first of them. Use as a context manager: leaving it waits for what is
    being written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    @functools.cached_property
    def _manager(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        return ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        if "_manager" in vars(self):
            self._manager.close()

    def save(self, snapshot: Snapshot) -> None:
        """Writes a snapshot, then deletes the one before it."""
        self._manager.save(
            int(snapshot.progress.steps),
            args=ocp.args.Composite(
                progress=ocp.args.StandardSave(snapshot.progress._asdict()),
                notes=ocp.args.JsonSave(snapshot.notes),
            ),
        )

    def newest(self, like: Progress) -> Snapshot | None:
        """Reads the newest snapshot; ``like`` gives shapes. None if there is none."""
        step = newest_step(self._folder)
        if step is None:
            return None
        template = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
        found: Any = self._manager.restore(
            step,
            args=ocp.args.Composite(
                progress=ocp.args.StandardRestore(template), notes=ocp.args.JsonRestore()
            ),
        )
        return Snapshot(Progress(**found.progress), found.notes)


def newest_step(folder: Path) -> int | None:
    """Returns the number of steps after which a run was saved last; None if it was not."""
    return max(ocp.utils.checkpoint_steps(folder.absolute()), default=None)


def forget(folder: Path) -> None:
    """Deletes a run's checkpoints, and the folder that they lay in if nothing else is there."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
