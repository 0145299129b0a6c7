"""What a benchmark was asked to do, with every default filled in; nothing here imports JAX."""

import dataclasses
from collections.abc import Mapping

from experiments.bench.variants import PLAIN, VARIANTS
from experiments.bench.workloads import WORKLOADS

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Group:
    """Train steps that are measured side by side; they differ in nothing but the variant.

    Attributes:
        model: key into ``WORKLOADS``.
        optimizer: key into ``OPTIMIZERS``.
        batch_size: examples per step.
    """

    model: str
    optimizer: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.model} {self.optimizer} batch {self.batch_size}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """The configuration of ``python -m experiments bench``; it goes into ``meta.json`` whole.

    Attributes:
        models: keys into ``WORKLOADS``.
        optimizers: keys into ``OPTIMIZERS``.
        variants: keys into ``VARIANTS``, the plain step first.
        batch_sizes: examples per step for every model, None for each model's own.
        dtype: of parameters and activations.
        seconds: how long each group's steps are timed.
        compilations: how often each step is compiled.
        seed: of weights, data, and the order in which steps run.
    """

    models: tuple[str, ...]
    optimizers: tuple[str, ...]
    variants: tuple[str, ...]
    batch_sizes: tuple[int, ...] | None
    dtype: str
    seconds: float
    compilations: int
    seed: int

    def groups(self) -> list[Group]:
        """Returns what is measured, in order."""
        return [
            Group(model, optimizer, batch_size)
            for model in self.models
            for batch_size in self.batch_sizes or (WORKLOADS[model].batch_size,)
            for optimizer in self.optimizers
        ]

    def variants_for(self, optimizer: str) -> list[str]:
        """Returns the variants that exist for an optimizer."""
        return [name for name in self.variants if VARIANTS[name].suits(optimizer, self.dtype)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """Defaults for one occasion.

    Attributes:
        summary: one line for ``--help``.
        models: keys into ``WORKLOADS``.
        optimizers: keys into ``OPTIMIZERS``.
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

# --------------------------------------------------------------------------------------------------
# Scale
# --------------------------------------------------------------------------------------------------

# Width of the transformer of each size.
SIZES: Mapping[str, int] = {"1M": 128, "10M": 384, "100M": 1152, "1B": 3584, "10B": 11136}

# How parameters and batches are laid out over the devices.
LAYOUTS: Mapping[str, str] = {
    "data": "data-parallel: whole parameters on each device",
    "fsdp": "fully sharded: each parameter split over all devices",
    "2d": "both: each parameter split over the two axes of a mesh",
}


@dataclasses.dataclass(frozen=True)
class Placement:
    """One transformer on one mesh.

    Attributes:
        size: key into ``SIZES``.
        layout: key into ``LAYOUTS``; on one device they are all the same.
        devices: number of devices.
    """

    size: str
    layout: str
    devices: int

    def __str__(self) -> str:
        return f"{self.size} {self.mesh}"

    @property
    def mesh(self) -> str:
        """How reports call the mesh."""
        return mesh_name(self.layout, self.devices)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """The configuration of ``python -m experiments scale``; it goes into ``meta.json`` whole.

    Attributes:
        sizes: keys into ``SIZES``.
        layouts: keys into ``LAYOUTS``.
        devices: numbers of devices.
        optimizer: key into ``OPTIMIZERS``.
        variants: keys into ``VARIANTS``, the plain step first.
        dtype: of parameters and activations.
        target: key into ``TARGETS``, None for the devices that are there.
        compiler: name and version of what compiles for the target.
    """

    sizes: tuple[str, ...]
    layouts: tuple[str, ...]
    devices: tuple[int, ...]
    optimizer: str
    variants: tuple[str, ...]
    dtype: str
    target: str | None = None
    compiler: str | None = None

    def placements(self) -> list[Placement]:
        """Returns what is compiled, in order; one device has but one layout."""
        return [
            Placement(size, layout, devices)
            for size in self.sizes
            for devices in self.devices
            for layout in (self.layouts if devices > 1 else self.layouts[:1])
        ]


def mesh_name(layout: str, devices: int) -> str:
    """Returns how reports call a mesh."""
    return "1 device" if devices == 1 else f"{layout} x {devices}"


def with_plain(*variants: str) -> tuple[str, ...]:
    """Returns the variants, each once, with the plain step in front."""
    return tuple(dict.fromkeys((PLAIN, *variants)))
