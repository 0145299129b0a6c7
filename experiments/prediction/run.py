"""The measurement itself: train every arm, keep what is finished, report it."""

import functools
from pathlib import Path

from experiments.prediction.config import PredictionArm, PredictionErrorConfig, PredictionRecord
from experiments.prediction.measure import measure
from experiments.prediction.report import ERRORS_FILE, markdown_report, terminal_report
from experiments.runs import publish, run_all, shortfall
from experiments.task import Data, Task
from experiments.training.scan import Draws, draw


def measure_prediction_errors(task: Task, config: PredictionErrorConfig, folder: Path) -> bool:
    """Measures predictions and writes the report.

    Args:
        task: the problem.
        config: what to measure; its names and numbers are valid.
        folder: where the results go; exists and holds no results.

    Returns:
        Whether all arms finished; False after Ctrl-C, when the report covers those that did.
    """

    @functools.cache  # once, and not before the run is on record
    def data() -> tuple[Data, Draws]:
        data = task.load(None)
        return data, draw(task, data, config.seeds, config.epochs, config.batch_size)

    def measure_arm(arm: PredictionArm) -> list[PredictionRecord]:
        return measure(task, config, arm, *data())

    records, meta = run_all(
        config.arms(), measure_arm, name=str, noun="arms", folder=folder, configuration=config
    )
    publish(
        folder,
        markdown_report(records, config, meta),
        terminal_report(records, config) if records else None,
        filter(None, [shortfall("arms", meta)]),
    )
    if records:
        from experiments.prediction.plots import plot_errors

        plot_errors(folder / ERRORS_FILE, records, config)
    return meta["status"] == "complete"
