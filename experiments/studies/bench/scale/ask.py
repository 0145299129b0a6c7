"""What ``scale`` is asked: which transformer is compiled for which meshes."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from experiments.compilers.targets import TARGETS
from experiments.kinds import one_of
from experiments.options import derived, many, names, one, output
from experiments.studies.bench.choices import (
    LAYOUTS,
    check_devices_of_target,
    devices,
    dtype_field,
    mesh_name,
    target_field,
    with_plain,
)
from experiments.studies.bench.exact import Exact
from experiments.studies.bench.floors import Least
from experiments.studies.bench.optimizers import BENCHED
from experiments.studies.bench.variants import PREDICTED, VARIANTS
from experiments.study import Study

# Width of the transformer of each size.
SIZES: Mapping[str, int] = {"1M": 128, "10M": 384, "100M": 1152, "1B": 3584, "10B": 11136}

_VARIANTS = (*PREDICTED, "nesterov")


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
class Config:
    """The configuration of ``python -m experiments scale``."""

    sizes: tuple[str, ...] = many(
        one_of("size", SIZES), tuple(SIZES), "SIZE", "numbers of parameters"
    )
    layouts: tuple[str, ...] = names(
        "layout", LAYOUTS, help="; ".join(f"{name}: {what}" for name, what in LAYOUTS.items())
    )
    devices: tuple[int, ...] = many(devices, (1, 2, 4, 8), "N", "powers of two", ordered=True)
    optimizer: str = one(one_of("optimizer", BENCHED), "adamw", "NAME")
    variants: tuple[str, ...] = names(
        "variant",
        _VARIANTS,
        ("closed-form", "last-update", "zero-gradient", "drop-in"),
        f"beside the plain step, of {' '.join(_VARIANTS)}",
    )
    dtype: str = dtype_field("float32")
    target: str | None = target_field("instead of virtual CPU devices")
    compiler: str | None = derived("name and version of what compiles for the target")
    output: Path | None = output()

    def completed(self) -> "Config":
        """Returns the configuration with the plain step and what can be compared with it."""
        if self.target:
            check_devices_of_target(self.devices)
        return dataclasses.replace(
            self,
            variants=tuple(
                name
                for name in with_plain(*self.variants)
                if VARIANTS[name].suits(self.optimizer, self.dtype)
            ),
            compiler=self.target and TARGETS[self.target].compiler,
        )

    def items(self) -> list[Placement]:
        """Returns what is compiled, in order; one device has but one layout."""
        return [
            Placement(size, layout, devices)
            for size in self.sizes
            for devices in self.devices
            for layout in (self.layouts if devices > 1 else self.layouts[:1])
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One variant of one transformer on one mesh; all bytes are those of one device.

    Attributes:
        size: nominal size.
        mesh: layout and number of devices.
        devices: number of devices.
        optimizer: name of the optimizer.
        variant: name of the variant.
        parameters: number of parameters of the model.
        params_bytes: their bytes on one device.
        exact: figures of the compiled step. XLA counts the body of a loop once.
        step_bytes: bytes that the plain step on this mesh accesses, every block counted.
        floor: lower bounds of what the variant adds, None where there are none.
        shardings_kept: whether parameters, state and θ̂ leave the step sharded as they came.
    """

    size: str
    mesh: str
    devices: int
    optimizer: str
    variant: str
    parameters: int
    params_bytes: int
    exact: Exact
    step_bytes: int
    floor: Least | None
    shardings_kept: bool

    @property
    def place(self) -> str:
        """What it was compiled side by side in."""
        return f"{self.size}, {self.mesh}"


STUDY = Study(
    name="scale",
    summary="count what prediction adds to transformers of 1 M to 10 B parameters on many devices",
    about=(
        "Compiles, without running it or allocating anything, the train step of a decoder "
        "transformer of each size on each mesh, and counts bytes and collective operations "
        "with and without prediction; about ten minutes on two cores. Devices that the machine "
        "lacks are virtual CPU devices. Writes report.md, runs.jsonl and meta.json to a new "
        "folder. Ctrl-C keeps what has finished."
    ),
    config=Config,
    folder="scale",
    noun="meshes",
    place=21,
)
