"""The networks that are cut into stages; importing this needs no JAX."""

from collections.abc import Mapping
from typing import NamedTuple

from experiments.recipe import Recipe


class Network(NamedTuple):
    """What is cut, what it learns, and where its grids begin.

    Attributes:
        summary: one line about it.
        staged: names a :class:`~experiments.models.staged.Staged`.
        task: whose data it learns, at the preset ``"cpu"``.
        batch_size: examples of a micro-batch.
        rates: by optimizer, around which a grid begins where nothing is late.
        at_once: runs side by side in one program, as many as are quickest on one core.
        measured: number of examples of each part that losses are measured on, None for all.
    """

    summary: str
    staged: Recipe
    task: str
    batch_size: int
    rates: Mapping[str, float]
    at_once: int
    measured: int | None = None


NETWORKS: Mapping[str, Network] = {
    "digits": Network(
        "a residual network on digits",
        Recipe("experiments.models.staged_mlp:NETWORK"),
        "digits",
        32,
        {"sgdm": 0.1, "adamw": 3e-3},
        at_once=16,
    ),
    "characters": Network(
        "a decoder transformer on Shakespeare's characters, 32 wide, windows of 32",
        Recipe("experiments.models.staged_transformer:NETWORK"),
        "decoder-tiny",
        8,
        {"sgdm": 0.1, "adamw": 3e-3},
        at_once=1,
        measured=256,
    ),
    "photographs": Network(
        "a residual convolutional network on CIFAR-10, 16 channels",
        Recipe("experiments.models.staged_convolutions:NETWORK"),
        "lenet-patches",
        32,
        {"sgdm": 0.05, "adamw": 3e-3},
        at_once=1,
        measured=1_000,
    ),
}
