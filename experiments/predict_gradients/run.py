"""The experiment itself: seed by seed, each kept as soon as it is finished."""

import functools
from pathlib import Path

from experiments.predict_gradients.config import CURVES_FILE, PredictConfig
from experiments.predict_gradients.plots import plot_curves
from experiments.predict_gradients.problems import load_problem
from experiments.predict_gradients.race import Program, race
from experiments.predict_gradients.records import PredictRecord, make_record
from experiments.predict_gradients.report import markdown_report, terminal_report
from experiments.runs import publish, run_all, shortfall


def predict_gradients(config: PredictConfig, data_dir: str | None, folder: Path) -> bool:
    """Trains every arm at every seed and writes the report.

    Args:
        config: what to compare; its names and numbers are valid.
        data_dir: where TFDS data lie, None for its default.
        folder: where the results go; exists and holds no results.

    Returns:
        Whether all seeds finished; False after Ctrl-C, when the report covers those that did.
    """
    problem = load_problem(config.problem)
    splits = problem.load(data_dir)  # before anything is on record: data may be missing

    @functools.cache  # once, and not before the run is on record
    def programs() -> list[Program]:
        return [Program(problem, arm, config, splits.train) for arm in config.arms]

    def run_seed(seed: int) -> list[PredictRecord]:
        runners = race(programs(), splits, seed, config.budget)
        return [make_record(runner, seed) for runner in runners]

    records, meta = run_all(
        config.seeds,
        run_seed,
        name=lambda seed: f"seed {seed}",
        noun="seeds",
        folder=folder,
        configuration=config,
    )
    publish(
        folder,
        markdown_report(records, config, meta),
        terminal_report(records, config) if records else None,
        filter(None, [shortfall("seeds", meta)]),
    )
    if records:
        plot_curves(folder / CURVES_FILE, records, config)
    return meta["status"] == "complete"
