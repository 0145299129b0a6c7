"""A run of an asynchronous pipeline: checkpoints between ticks, and a stop where a stage breaks.

A checkpoint holds all of every stage, what is in flight included: its rings and its messages. So a
restart goes on bit for bit. With stashed weights that is up to 2P - 1 times the weights more, which
is what stashing takes in memory too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.training.pipeline import Seen, Stage

Ticks = Callable[[Any, Stage], tuple[Stage, Seen]]


class StageError(Exception):
    """A stage has come to values that are not finite; nothing after the last checkpoint is kept."""


def run(
    ticks: Ticks, data: Any, stages: Stage, folder: Path, until: int
) -> tuple[Stage, list[np.ndarray]]:
    """Trains to a tick, from the newest checkpoint in a folder if there is one.

    Args:
        ticks: several ticks of all stages, compiled; between two calls a checkpoint is written.
        data: what micro-batches are taken from.
        stages: the beginning; if there is a checkpoint, only its shapes and devices matter.
        folder: where checkpoints go.
        until: the tick to stop at, a multiple of what one call does.

    Returns:
        All stages, and the losses that the last one saw from here on, one array a call.

    Raises:
        StageError: a stage broke; the newest checkpoint is from before the call in which it did.
    """
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    losses = []
    with ocp.CheckpointManager(folder.absolute(), options=options) as manager:
        stages = _newest(manager, stages)
        while (passed := _passed(stages)) < until:
            stages, seen = ticks(data, stages)
            check(seen, passed)
            losses.append(np.asarray(seen.loss)[-1])
            manager.save(_passed(stages), args=ocp.args.StandardSave(stages._asdict()))
    return stages, losses


def check(seen: Seen, passed: int) -> None:
    """Refuses what is not finite.

    Args:
        seen: of some ticks, ``[stages, ticks]``.
        passed: how many ticks came before.

    Raises:
        StageError: it names the stage; what is not finite needs a tick to reach another one.
    """
    broken = np.asarray(seen.broken)
    if not broken.any():
        return
    tick = int(broken.any(axis=0).argmax())
    names = " and ".join(map(str, np.flatnonzero(broken[:, tick])))
    raise StageError(
        f"stage {names} of {len(broken)} (the first is 0) came to values that are not finite at "
        f"tick {passed + tick}; the newest checkpoint is from before: lower the learning rate or "
        "look at the micro-batches of that tick, and start again from it"
    )


def _passed(stages: Stage) -> int:
    return int(stages.tick.addressable_data(0).ravel()[0])


def _newest(manager: ocp.CheckpointManager, stages: Stage) -> Stage:
    step = manager.latest_step()
    if step is None:
        return stages
    template = jax.tree.map(ocp.utils.to_shape_dtype_struct, stages._asdict())
    return Stage(**manager.restore(step, args=ocp.args.StandardRestore(template)))
