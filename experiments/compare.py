"""The comparison itself: run every arm, keep what is finished, report it."""

import functools
from pathlib import Path
from typing import Any

from experiments.config import Arm, CompareConfig, make_arms
from experiments.report import markdown_report, terminal_report
from experiments.results import CURVES_FILE, RunRecord, make_records
from experiments.runs import publish, run_all, shortfall
from experiments.summary import make_measures, summarize
from experiments.task import Data, Task
from experiments.tasks.constant import Training
from experiments.training.batches import steps_per_epoch
from experiments.training.scan import Draws, draw, train
from experiments.training.schedules import method_of


def compare(task: Task, training: Training, config: CompareConfig, folder: Path) -> bool:
    """Runs a comparison and writes its report.

    Args:
        task: the problem.
        training: how it is trained, but for what the configuration says.
        config: what to compare; its names and numbers are valid.
        folder: where the results go; exists and holds no results.

    Returns:
        Whether all arms finished; False after Ctrl-C, when the report covers those that did.
    """
    arms = make_arms(config.learning_rates, config.horizons, config.baselines)
    protocol = training.protocol

    @functools.cache  # once, and not before the run is on record
    def data() -> tuple[Data, Draws]:
        data = task.load(None)
        return data, draw(task, data, config.seeds, config.epochs, config.batch_size)

    def train_arm(arm: Arm) -> list[RunRecord]:
        loaded, draws = data()
        steps = config.epochs * steps_per_epoch(loaded, config.batch_size)
        method = method_of(protocol, arm.optimizer, arm.form, arm.learning_rate, steps)
        history = train(task, loaded, method, draws, protocol.measure_batch_size)
        return make_records(config, arm, history)

    records, meta = run_all(
        arms,
        train_arm,
        name=lambda arm: f"{arm.optimizer} {arm.label}",
        noun="arms",
        folder=folder,
        configuration=config,
    )
    _report(task, config, folder, records, meta)
    return meta["status"] == "complete"


def _report(
    task: Task, config: CompareConfig, folder: Path, records: list[RunRecord], meta: dict[str, Any]
) -> None:
    measures = make_measures(task, config)
    rows = summarize(records, measures)
    publish(
        folder,
        markdown_report(rows, measures, config, meta["arms_planned"]),
        terminal_report(rows, measures, config) if records else None,
        filter(None, [shortfall("arms", meta)]),
    )
    if records:
        from experiments.plots import plot_curves

        plot_curves(folder / CURVES_FILE, records, config)
