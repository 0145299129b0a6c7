"""What one benchmark run keeps: one line of ``runs.jsonl`` for each measured step."""

import dataclasses
from typing import Any

from experiments.bench.exact import Exact
from experiments.bench.floors import Least


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


def compiled_record(data: dict[str, Any]) -> CompiledRecord:
    """Returns the record that a line of ``runs.jsonl`` was written from."""
    figures: dict[str, Any] = {"exact": Exact(**data["exact"])}
    return CompiledRecord(**data | figures)


def bench_record(data: dict[str, Any]) -> BenchRecord:
    """Returns the record that a line of ``runs.jsonl`` was written from."""
    return BenchRecord(**_with_figures(data | {"timed": Timed(**data["timed"])}))


def scale_record(data: dict[str, Any]) -> ScaleRecord:
    """Returns the record that a line of ``runs.jsonl`` was written from."""
    return ScaleRecord(**_with_figures(data))


def _with_figures(data: dict[str, Any]) -> dict[str, Any]:
    floor = data["floor"] and Least(**data["floor"])
    return data | {"exact": Exact(**data["exact"]), "floor": floor}
