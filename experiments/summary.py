"""What a comparison reports."""

from experiments.compared import Measure
from experiments.config import CompareConfig
from experiments.tasks import Task


def make_measures(task: Task, config: CompareConfig) -> tuple[Measure, ...]:
    """Returns the measures that a comparison reports."""
    early = Measure(
        f"train loss, epoch {config.early_epoch}", lambda run: run.early_loss, _diverged
    )
    return (
        *([early] if config.early_epoch < config.epochs else []),
        Measure(f"train loss, epoch {config.epochs}", lambda run: run.final_loss, _diverged),
        Measure(
            f"epochs to loss {config.target_loss:g}",
            lambda run: run.epochs_to_target,
            _reached,
        ),
        Measure(
            f"test {task.metric_name}",
            lambda run: run.final_test_metric,
            _diverged,
            higher_is_better=task.metric_higher_is_better,
        ),
    )


def _diverged(present: int, seeds: int) -> str:
    return f"{seeds - present}/{seeds} diverged"


def _reached(present: int, seeds: int) -> str:
    return f"{present}/{seeds} reached"
