"""Checkpoints of a run by Orbax, from which it goes on bit for bit."""

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

    Use as a context manager: leaving it waits for what is being written.
    """

    def __init__(self, folder: Path) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
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
        step = self._manager.latest_step()
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
