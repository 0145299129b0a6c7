"""What ``bench`` and ``scale`` both let one choose."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.compilers.targets import TARGETS
from experiments.errors import UsageError
from experiments.kinds import count, one_of
from experiments.options import one
from experiments.studies.bench.variants import PLAIN

DTYPES = ("float32", "bfloat16")

# How parameters and batches are laid out over the devices.
LAYOUTS: Mapping[str, str] = {
    "data": "data-parallel: whole parameters on each device",
    "fsdp": "fully sharded: each parameter split over all devices",
    "2d": "both: each parameter split over the two axes of a mesh",
}

_MOST_DEVICES = 64
_DEVICES_OF_A_TARGET = 8


def dtype_field(default: str | None) -> Any:
    """The field of the dtype that everything is computed in."""
    help = f"of parameters and activations, {' or '.join(DTYPES)}"
    return one(one_of("dtype", DTYPES), default, "NAME", help, shown=DTYPES[0])


def target_field(instead: str, **about: Any) -> Any:
    """The field of what is compiled for, which need not be there."""
    targets = "; ".join(f"{name}: {target.summary}" for name, target in TARGETS.items())
    help = f"compile for a device that need not be there, {instead}; needs '.[aot]'; {targets}"
    return one(one_of("target", TARGETS), None, "NAME", help, **about)


def devices(text: str) -> int:
    """A number of devices."""
    number = count(text)
    if number > _MOST_DEVICES or number & (number - 1):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a power of two from 1 to {_MOST_DEVICES}"
        )
    return number


def check_devices_of_target(numbers: Sequence[int]) -> None:
    """Raises a ``UsageError`` if a target has not that many devices."""
    if max(numbers) > _DEVICES_OF_A_TARGET:
        raise UsageError(
            f"argument --devices: {max(numbers)} is more than the {_DEVICES_OF_A_TARGET} of a "
            "target"
        )


def mesh_name(layout: str, devices: int) -> str:
    """Returns how reports call a mesh."""
    return "1 device" if devices == 1 else f"{layout} x {devices}"


def with_plain(*variants: str) -> tuple[str, ...]:
    """Returns the variants, each once, with the plain step in front."""
    return tuple(dict.fromkeys((PLAIN, *variants)))
