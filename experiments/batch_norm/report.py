"""The report on BatchNorm statistics: what recalibration changes, arm by arm."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from experiments.arms import horizon_label
from experiments.batch_norm.config import OPTIMIZERS, BatchNormConfig, BatchNormRecord
from experiments.provenance import describe_origin
from experiments.report import format_difference, format_interval
from experiments.results import META_FILE, RUNS_FILE
from experiments.statistics import mean_interval, paired_difference
from experiments.tables import TABLE_STYLE, markdown_table

_HEADER = ("optimizer", "momentum", "trained with", "epoch")
_COLUMNS = ("accuracy, running", "Δ recalibrated", "loss, running", "Δ recalibrated")


def _rows(records: Sequence[BatchNormRecord]) -> Iterator[list[str]]:
    groups: dict[tuple[str, float, float], list[BatchNormRecord]] = {}
    for record in records:
        groups.setdefault((record.optimizer, record.momentum, record.s), []).append(record)
    for (optimizer, momentum, s), runs in groups.items():
        epochs = len(runs[0].running_loss)
        for epoch in dict.fromkeys((0, epochs - 1)):
            cells = [
                cell
                for running, fresh in (
                    ("running_accuracy", "recalibrated_accuracy"),
                    ("running_loss", "recalibrated_loss"),
                )
                for cell in _cells(runs, running, fresh, epoch)
            ]
            yield [optimizer, f"{momentum:g}", horizon_label(s), str(epoch + 1), *cells]


def _cells(runs: Sequence[BatchNormRecord], running: str, fresh: str, epoch: int) -> list[str]:
    before, after = ([getattr(run, name)[epoch] for run in runs] for name in (running, fresh))
    return [
        format_interval(mean_interval(before)),
        format_difference(paired_difference(after, before)),
    ]


def terminal_report(records: Sequence[BatchNormRecord]) -> RenderableType:
    """Returns the table for the terminal."""
    table = Table(title="Evaluation at θ; Δ: statistics measured anew at θ", **TABLE_STYLE)
    for title in _HEADER:
        table.add_column(title)
    for title in _COLUMNS:
        table.add_column(title, justify="right")
    for row in _rows(records):
        table.add_row(*row)
    return table


def markdown_report(
    records: Sequence[BatchNormRecord], config: BatchNormConfig, meta: Mapping[str, Any]
) -> str:
    """Returns the text of ``report.md``."""
    return "\n".join(_lines(records, config, meta)) + "\n"


def _lines(
    records: Sequence[BatchNormRecord], config: BatchNormConfig, meta: Mapping[str, Any]
) -> Iterator[str]:
    yield "# Which BatchNorm statistics to evaluate with\n"
    if meta["arms_finished"] < meta["arms_planned"]:
        yield f"**Interrupted:** {meta['arms_finished']} of {meta['arms_planned']} arms finished.\n"
    yield (
        "A small convolutional network on scikit-learn's digits, evaluated on the test set at the "
        "true weights θ: with the running statistics that training left, which with prediction "
        "belong to θ̂, and with statistics averaged anew at θ over one epoch's batches. Mean ± "
        f"95 % interval over {len(config.seeds)} seeds; a star marks a paired difference whose "
        "interval excludes zero. The rows trained with s=0 are the control: there, too, running "
        "statistics lag behind the weights.\n"
    )
    cells = ([cell.replace("*", "\\*") for cell in row] for row in _rows(records))
    yield from markdown_table([*_HEADER, *_COLUMNS], cells)
    rates = ", ".join(f"{name} {OPTIMIZERS[name]:g}" for name in config.optimizers)
    yield (
        f"\nLearning rates, not tuned: {rates}. Batch size {config.batch_size}. "
        f"{describe_origin(meta)} Everything else: `{META_FILE}`; every epoch: `{RUNS_FILE}`."
    )
