"""A language model of 1 LSTM layer on the Penn Treebank, as in XGrad (arXiv 2305.18240)."""

from experiments.evidence.language import lstm_task
from experiments.evidence.task import Task


def make(preset: str) -> Task:
    """Returns the task; see :func:`lstm_task` for the presets."""
    return lstm_task("lstm1", preset, layers=1)
