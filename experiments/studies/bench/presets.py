"""Defaults of ``bench``: one for each occasion."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """Defaults for one occasion.

    Attributes:
        summary: one line for ``--help``.
        models: keys into ``WORKLOADS``.
        optimizers: keys into ``BENCHED``.
        seconds: how long each group's steps are timed.
        compilations: how often each step is compiled.
    """

    summary: str
    models: tuple[str, ...]
    optimizers: tuple[str, ...]
    seconds: float
    compilations: int


PRESETS: Mapping[str, Preset] = {
    "quick": Preset(
        summary="two models, two optimizers, about two minutes on two cores",
        models=("mlp", "lenet"),
        optimizers=("sgdm", "adam"),
        seconds=7.0,
        compilations=2,
    ),
    "full": Preset(
        summary="every model that a CPU can train",
        models=("mlp", "lenet", "lstm", "vit", "decoder"),
        optimizers=("sgdm", "rmsprop", "adam", "adamw"),
        seconds=20.0,
        compilations=5,
    ),
    "gpu": Preset(
        summary="models of a GPU's size",
        models=("mlp", "resnet50", "decoder-125m"),
        optimizers=("sgdm", "adamw"),
        seconds=30.0,
        compilations=3,
    ),
}
