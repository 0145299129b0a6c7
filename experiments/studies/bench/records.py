"""What one step leaves: one line of ``runs.jsonl`` for each variant."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from experiments.studies.bench.ask import Group
from experiments.studies.bench.exact import Exact
from experiments.studies.bench.floors import Least

Record = TypeVar("Record")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timed:
    """Measured times; unlike the exact figures they depend on the machine and on chance.

    Attributes:
        compile_seconds: tracing, lowering and compiling, once per repetition.
        step_seconds: one step, once per round; the same round of all variants of a group ran
            side by side.
        loss_is_finite: whether the loss still was a number in the last round.
    """

    compile_seconds: list[float]
    step_seconds: list[float]
    loss_is_finite: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchRecord:
    """One variant in one group.

    Attributes:
        model: name of the workload.
        optimizer: name of the optimizer.
        batch_size: examples per step.
        variant: name of the variant.
        parameters: number of parameters of the model.
        params_bytes: their bytes.
        carried: bytes of what the training loop keeps: parameters and optimizer state.
        compilations: how often XLA compiled for the first steps of one run; 1 is right.
        exact: figures of the compiled step.
        floor: its lower bound, None where there is none.
        timed: measured times.
    """

    model: str
    optimizer: str
    batch_size: int
    variant: str
    parameters: int
    params_bytes: int
    carried: int
    compilations: int
    exact: Exact
    floor: Least | None
    timed: Timed


def group_of(record: BenchRecord) -> Group:
    """Returns what a record was measured in."""
    return Group(record.model, record.optimizer, record.batch_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleRecord:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompiledRecord:
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


_PARTS = {"exact": Exact, "floor": Least, "timed": Timed}


def read_record(kind: type[Record], data: Mapping[str, Any]) -> Record:
    """Returns the record that a line of ``runs.jsonl`` was written from."""
    parts = {name: part(**data[name]) for name, part in _PARTS.items() if data.get(name)}
    return kind(**{**data, **parts})
