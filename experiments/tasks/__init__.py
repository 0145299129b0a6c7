"""The tasks, one file each, and the registry that imports one only when it is asked for.

A new task is a module here that defines ``TASK`` plus one line in ``TASKS``.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from experiments.errors import UsageError, unknown_name

if TYPE_CHECKING:
    import jax

    from experiments.data import Splits

# Name -> one line for `python -m experiments list`. It stands here, not in the task's module, so
# that listing does not import JAX.
TASKS: Mapping[str, str] = {
    "digits": "scikit-learn's 1,797 handwritten 8x8 digits, a small fully connected network",
    "cifar10-lenet": "CIFAR-10's 60,000 colour photographs (TFDS, from disk), LeNet",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What a training run needs to know about a problem.

    ``loss`` and ``metric`` take ``(params, examples, key)`` and return the mean over the examples;
    models without randomness ignore the key.

    Attributes:
        name: the name in the registry.
        load: reads the data and returns its fixed split.
        init: draws initial parameters from a key.
        loss: what is minimised.
        metric: what is reported on the test examples.
        metric_name: the metric's name with its unit.
        metric_higher_is_better: which way the metric improves.
        epochs: default number of epochs.
        batch_size: examples per step.
        early_epoch: the epoch at which the early training loss is read.
        target_loss: the training loss whose first epoch is reported.
        learning_rates: default learning rate of each optimizer.
        learning_rate_origin: how those were chosen, for the report.
    """

    name: str
    load: Callable[[], "Splits"]
    init: Callable[["jax.Array"], Any]
    loss: Callable[[Any, Any, "jax.Array"], "jax.Array"]
    metric: Callable[[Any, Any, "jax.Array"], "jax.Array"]
    metric_name: str
    metric_higher_is_better: bool
    epochs: int
    batch_size: int
    early_epoch: int
    target_loss: float
    learning_rates: Mapping[str, float]
    learning_rate_origin: str


def load_task(name: str) -> Task:
    """Imports the task called ``name``; a ``UsageError`` lists the names that exist."""
    if name not in TASKS:
        raise UsageError(unknown_name("task", name, TASKS))
    module = name.replace("-", "_")
    return importlib.import_module(f"experiments.tasks.{module}").TASK
