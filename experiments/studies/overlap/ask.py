"""Which train steps are compiled side by side, and what is read off each of them."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from experiments.compilers.targets import TARGETS
from experiments.kinds import count, one_of
from experiments.options import many, names, one, output
from experiments.study import Study

STEPS = {
    "synchronous": "the gradients of this step are reduced before they are applied",
    "untied": "late gradients; the update does not wait for this step's gradients",
    "tied": "late gradients as xgrad_optax.delayed applies them",
    "in-flight": "the same, predicted with the device's own gradients in flight",
}


class Item(NamedTuple):
    """One compiled step."""

    step: str
    batch_size: int

    def __str__(self) -> str:
        return f"{self.step}, {self.batch_size} examples"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments overlap``."""

    target: str = one(
        one_of("target", TARGETS),
        "h100",
        "NAME",
        "; ".join(f"{name}: {target.summary}" for name, target in TARGETS.items()),
    )
    steps: tuple[str, ...] = names("step", STEPS)
    batch_sizes: tuple[int, ...] = many(count, (256, 1024, 4096), "N", "examples on each device")
    delay: int = one(count, 1, "N", "how many updates late the gradients are")
    layers: int = one(count, 6, "N", "matrices of the network")
    width: int = one(count, 2048, "N", "their size")
    output: Path | None = output()

    def items(self) -> list[Item]:
        """Every step at every batch size."""
        return [Item(step, size) for size in self.batch_sizes for step in self.steps]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One compiled step: one line of ``runs.jsonl``.

    Attributes:
        step: key into ``STEPS``.
        batch_size: examples on each device.
        compiler: name and version of what compiled it.
        all_reduces: how many there are.
        of_this_batch: how many of them depend on this step's batch.
        under_products: how many have a matrix product between their start and their end.
        products: how many matrix products there are.
        overlapping_products: how many of them run while an all-reduce is on its way.
        temporary: bytes of temporaries on each device.
        events: what the device does in order: ``"product"``, ``"start 0"``, ``"done 0"``.
    """

    step: str
    batch_size: int
    compiler: str
    all_reduces: int
    of_this_batch: int
    under_products: int
    products: int
    overlapping_products: int
    temporary: int
    events: list[str]


STUDY = Study(
    name="overlap",
    summary="compile a late all-reduce for GPUs that need not be there, and see what it runs under",
    about=(
        "Compiles data-parallel train steps of a network of equal layers for eight devices, with "
        "gradients that are reduced at once and with late ones, and reads off the scheduled "
        "program which all-reduces depend on the step's batch and which run under matrix products. "
        "Nothing is run or timed; needs '.[aot]'. Writes report.md, schedule.png, runs.jsonl and "
        "meta.json to a new folder. Ctrl-C keeps the steps that have finished. About one minute."
    ),
    config=Config,
    folder="overlap-{target}",
    noun="steps",
    place=90,
)
