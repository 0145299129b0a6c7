"""Runs that are made up: a row, results that learn nothing, and a sweep of them."""

import dataclasses
import math

from experiments.studies.evidence import sweep as sweeping
from experiments.studies.evidence.planned import reported_specs
from experiments.studies.evidence.rows import Row
from experiments.studies.evidence.summaries import summarize_row
from experiments.tasks import load_task
from experiments.training.result import FINISHED, Point, Result

ROW = Row(
    name="made-up",
    study="main",
    task="digits",
    preset="cpu",
    optimizer="sgdm",
    arms=("plain", "nesterov", "s=1"),
    seeds=(0, 1, 2),
)
PROTOCOL = load_task("digits", "cpu").protocol


HERE = "0123456789ab"  # the fingerprint of the data


def made_up(spec, curve, status=FINISHED, gradients=1):
    points = [
        Point(
            epoch=epoch,
            step=10 * epoch,
            seconds=float(epoch),
            train_loss=1.0,
            validation={"accuracy": value},
            test={"accuracy": value and value - 1},
        )
        for epoch, value in enumerate(curve, 1)
    ]
    return Result(
        spec=spec,
        status=status,
        metric="accuracy",
        higher_is_better=True,
        parameters=1,
        steps=10 * len(points),
        gradients_per_step=gradients,
        points=points,
        compile_seconds=0.0,
        wall_seconds=1.0,
        step_bytes=1000,
        error=None,
        environment={
            "date": "2026-01-01T00:00:00",
            "device": {"kind": "cpu", "cpu_model": "made up", "cpu_cores": 2},
            "versions": {"jax": "0", "optax": "0"},
        },
        data=HERE,
    )


def pretend(spec):
    """The better the closer the rate is to 0.1; prediction gains 2, seeds differ by 1."""
    gain = {"plain": 0.0, "nesterov": 1.0, "s=1": 2.0}[spec.arm]
    top = 80 - 10 * abs(math.log(spec.learning_rate / 0.1)) + gain + spec.seed % 7
    return made_up(spec, [top - 10, top, top - 5])


def run_sweep(row, run, file):
    """Sweeps a row; ``file`` is that of its results."""
    assert file.stem == row.name
    said = []
    sweep = sweeping.Sweep(one_by_one(run), lambda row: HERE, file.parent, said.append)
    for _ in sweep.rows([(row, PROTOCOL)]):
        pass
    return sweep.tally, said


def one_by_one(run):
    return lambda specs: [run(spec) for spec in specs]


def noisy(spec, gains):
    """The plain arm ends at 80, others above it by a gain that is not the same for all seeds."""
    top = 80 + 0.1 * (spec.seed % 3) + gains.get(spec.arm, 0.0) * (1 + 0.1 * (spec.seed % 2))
    return made_up(spec, [top - 10, top])


def row_of(gains, **changes):
    """A row with these gains, summarized."""
    row = dataclasses.replace(ROW, arms=tuple(gains), learning_rates=(0.1,), **changes)
    specs = [spec for arm in row.arms for spec in reported_specs(row, (0.1,), arm)]
    return summarize_row(row, PROTOCOL, {spec.key: noisy(spec, gains) for spec in specs})


GAINS = {"plain": 0.0, "nesterov": 0.5, "s=1": 1.0, "s=2": 0.0}
