"""What ``bench --target`` was asked for; its options are among those of ``bench``."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from experiments.compilers.targets import TARGETS
from experiments.errors import UsageError, unknown_name
from experiments.options import output
from experiments.studies.bench.choices import (
    DTYPES,
    check_devices_of_target,
    mesh_name,
    with_plain,
)
from experiments.studies.bench.exact import Exact
from experiments.studies.bench.variants import VARIANTS
from experiments.study import Study


class Shape(NamedTuple):
    """How a model is compiled where it is not run.

    Attributes:
        batch_size: examples per step on each device.
        settings: further arguments of the model, for programs that compile in seconds.
        places_activations: whether the model can be told how activations lie over devices.
        is_large: whether to compile it at less effort where the compiler has a choice.
    """

    batch_size: int
    settings: Mapping[str, Any] = MappingProxyType({})
    places_activations: bool = False
    is_large: bool = True


_ONE_BLOCK = {"unroll": 1}  # a loop over the transformer's blocks: the program holds one

COMPILED: Mapping[str, Shape] = {
    "mlp": Shape(16, is_large=False),
    "decoder-125m": Shape(2, _ONE_BLOCK, places_activations=True),
    "resnet50": Shape(16),
    "vit-s16": Shape(16, _ONE_BLOCK),
}

# What prediction costs in every form; the alternatives are no matter of compilers.
_VARIANTS = (
    "closed-form",
    "zero-gradient",
    "last-update",
    "drop-in",
    "drop-in-closed-form",
    "in-place",
)
_OPTIMIZERS = ("adamw", "sgdm", "adam", "adabelief", "lion", "sgdm-clipped", "adamw-clipped")
LAYOUTS = ("data", "fsdp")
DEVICES = (1, 8)


@dataclasses.dataclass(frozen=True)
class Group:
    """Train steps that are compiled side by side; they differ in nothing but the variant.

    Attributes:
        model: key into ``COMPILED``.
        optimizer: key into ``BENCHED``.
        compute: dtype of activations; parameters are float32.
        layout: key into ``LAYOUTS``.
        devices: number of devices.
    """

    model: str
    optimizer: str
    compute: str
    layout: str
    devices: int

    def __str__(self) -> str:
        return f"{self.model} {self.optimizer} {self.compute}, {self.mesh}"

    @property
    def mesh(self) -> str:
        """How reports call the mesh."""
        return mesh_name(self.layout, self.devices)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``bench --target``.

    Attributes:
        target: key into ``TARGETS``.
        compiler: name and version of what compiles.
        models: keys into ``COMPILED``.
        optimizers: keys into ``BENCHED``.
        variants: keys into ``VARIANTS``, the plain step first.
        computes: dtypes of activations.
        layouts: keys into ``LAYOUTS``.
        devices: numbers of devices.
        output: a new or empty folder.
    """

    target: str
    compiler: str
    models: tuple[str, ...]
    optimizers: tuple[str, ...]
    variants: tuple[str, ...]
    computes: tuple[str, ...]
    layouts: tuple[str, ...]
    devices: tuple[int, ...]
    output: Path | None = output()

    def items(self) -> list[Group]:
        """Returns what is compiled: one thing is varied at a time.

        On one device the first model has every optimizer, and every model with the first optimizer
        is computed in every dtype; the first of each is laid out over several devices.
        """
        model, optimizer, compute = self.models[0], self.optimizers[0], self.computes[0]
        groups = []
        if 1 in self.devices:
            layout = self.layouts[0]  # on one device they are all the same
            alone = [(model, name, compute) for name in self.optimizers]
            alone += [(name, optimizer, dtype) for name in self.models for dtype in self.computes]
            groups += [Group(*what, layout, 1) for what in dict.fromkeys(alone)]
        return groups + [
            Group(name, optimizer, compute, layout, devices)
            for name in self.models
            for devices in self.devices
            for layout in self.layouts
            if devices > 1
        ]

    def variants_for(self, optimizer: str) -> list[str]:
        """Returns the variants that exist for an optimizer."""
        return [name for name in self.variants if VARIANTS[name].suits(optimizer, "float32")]


def of_target(asked: Any) -> Config:
    """Returns the configuration that options of ``bench`` stand for.

    Raises:
        UsageError: something cannot be compiled here, or not for the target.
    """
    for model in asked.models or ():
        if model not in COMPILED:
            message = unknown_name("model", model, COMPILED)
            raise UsageError(f"argument --models: with --target, {message}")
    check_devices_of_target(asked.devices or DEVICES)
    return Config(
        target=asked.target,
        compiler=TARGETS[asked.target].compiler,
        models=asked.models or tuple(COMPILED),
        optimizers=asked.optimizers or _OPTIMIZERS,
        variants=with_plain(*(asked.variants or _VARIANTS)),
        computes=asked.computes or DTYPES,
        layouts=asked.layouts or LAYOUTS,
        devices=asked.devices or DEVICES,
        output=asked.output,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One variant of one model, compiled for a target; all bytes are those of one device.

    Attributes:
        model: name of the workload.
        optimizer: name of the optimizer.
        compute: dtype of activations.
        mesh: layout and number of devices.
        batch_size: examples per step.
        variant: name of the variant.
        parameters: number of parameters of the model.
        params_bytes: their bytes on one device.
        exact: figures of the compiled step.
    """

    model: str
    optimizer: str
    compute: str
    mesh: str
    batch_size: int
    variant: str
    parameters: int
    params_bytes: int
    exact: Exact

    @property
    def place(self) -> str:
        """What it was compiled side by side in."""
        return f"{self.model}, {self.optimizer}, {self.compute}, {self.mesh}"


# Not a command of its own: ``bench`` calls it.
STUDY = Study(
    name="bench",
    summary="",
    about="",
    config=Config,
    folder="bench-{target}",
    noun="comparisons",
)
