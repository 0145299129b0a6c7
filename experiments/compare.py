"""The comparison itself: run every arm, keep what is finished, report it."""

import contextlib
import dataclasses
import time
from pathlib import Path

from rich.console import Console

from experiments.config import CompareConfig
from experiments.optimizers import Arm, gradient_rule, make_arms
from experiments.progress import track
from experiments.provenance import describe_environment
from experiments.report import markdown_report, terminal_report
from experiments.results import (
    CURVES_FILE,
    REPORT_FILE,
    RunRecord,
    append_records,
    make_records,
    write_meta,
)
from experiments.summary import make_measures, summarize
from experiments.tasks import Task
from experiments.training import draw, train

# Wide enough for the table where there is no terminal to ask.
_WIDTH_WITHOUT_TERMINAL = 120


def compare(task: Task, config: CompareConfig, folder: Path) -> bool:
    """Runs a comparison and writes its report.

    Args:
        task: the problem.
        config: what to compare; its names and numbers are valid.
        folder: where the results go; exists and holds no results.

    Returns:
        Whether all arms finished; False after Ctrl-C, when the report covers those that did.
    """
    start = time.monotonic()
    arms = make_arms(config.learning_rates, config.horizons, config.baselines)
    meta = {"status": "running", "configuration": dataclasses.asdict(config)}
    meta |= describe_environment()
    write_meta(folder, meta)  # even a killed run says what it was

    records: list[RunRecord] = []
    try:
        _run_arms(task, config, folder, arms, records)
        meta["status"] = "complete"
    except KeyboardInterrupt:
        meta["status"] = "interrupted"
    meta |= {
        "arms_finished": len(records) // len(config.seeds),
        "arms_planned": len(arms),
        "wall_seconds": round(time.monotonic() - start, 1),
    }
    write_meta(folder, meta)
    _report(task, config, folder, records, len(arms))
    return meta["status"] == "complete"


def _run_arms(
    task: Task, config: CompareConfig, folder: Path, arms: list[Arm], records: list[RunRecord]
) -> None:
    """Trains the arms; a finished one is on disk and in ``records`` before the next begins."""
    splits = task.load()
    draws = draw(task, splits, config.seeds, config.epochs, config.batch_size)
    with contextlib.closing(track(arms, Console(stderr=True))) as tracked:
        for arm in tracked:
            history = train(task, splits, gradient_rule(arm), draws)
            finished = make_records(config, arm, history)
            append_records(folder, finished)
            records += finished


def _report(
    task: Task, config: CompareConfig, folder: Path, records: list[RunRecord], planned_arms: int
) -> None:
    measures = make_measures(task, config)
    rows = summarize(records, measures)
    text = markdown_report(rows, measures, config, planned_arms)
    (folder / REPORT_FILE).write_text(text, encoding="utf-8")
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_WITHOUT_TERMINAL)
    if records:
        from experiments.plots import plot_curves

        plot_curves(folder / CURVES_FILE, records, config)
        console.print(terminal_report(rows, measures, config))
    outcome = "" if len(rows) == planned_arms else f"interrupted, {len(rows)}/{planned_arms} arms: "
    console.print(
        f"{outcome}results are in {folder}", markup=False, highlight=False, soft_wrap=True
    )
