"""The benchmark itself: measure every group, keep what is finished, report it."""

from pathlib import Path

import jax

from experiments.bench.config import BenchConfig
from experiments.bench.measure import measure
from experiments.bench.report import BARS_FILE, caveats, markdown_report, terminal_report
from experiments.runs import publish, run_all


def bench(config: BenchConfig, folder: Path) -> bool:
    """Runs a benchmark and writes its report.

    Args:
        config: what to measure; its names and numbers are valid.
        folder: where the results go; exists and holds no results.

    Returns:
        Whether all groups finished; False after Ctrl-C, when the report covers those that did.
    """
    # A program read from a disk cache was not compiled, and compile times are measured here.
    jax.config.update("jax_enable_compilation_cache", False)
    records, meta = run_all(
        config.groups(),
        lambda group: measure(group, config),
        name=str,
        noun="groups",
        folder=folder,
        configuration=config,
    )
    publish(
        folder,
        markdown_report(records, config, meta),
        terminal_report(records) if records else None,
        caveats(records, meta),
    )
    if records:
        from experiments.bench.plots import plot_bars

        plot_bars(folder / BARS_FILE, records)
    return meta["status"] == "complete"
