"""The arms of the study: what a pipeline that never waits does about late gradients, and GPipe.

An arm has one or more *settings*, of which the tuning seeds choose together with the rate. The
numbers of a setting are arguments of a compiled program. Importing this needs no JAX.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from experiments.studies.pipeline.counts import delay, flushed_ticks

# Methods: what is compiled for them differs.
LINEAR, ZERO_GRADIENT, NESTEROV, GPIPE = "linear", "zero-gradient", "nesterov", "gpipe"
PIPEMARE, DC_ASGD = "pipemare", "dc-asgd"

# Which weights a backward pass uses, as in ``training/pipeline.py``, which imports JAX.
STASH, PREDICTED, CURRENT, ESTIMATED = "stash", "predicted", "current", "estimated"

TICKS, EXAMPLES = "ticks", "examples"
"""What GPipe has as much of as the asynchronous arms."""


class Setting(NamedTuple):
    """Everything about an arm but its learning rate.

    Attributes:
        method: which program it is trained by.
        horizons: steps that each stage predicts ahead.
        momentum: SGDM's μ, Adam's β₁.
        backward: at which weights a backward pass is taken.
        micro_batches: of GPipe's step; 1 for the others.
        equal: what GPipe has as much of; ``"ticks"`` for the others.
        strength: DC-ASGD's λ.
        adaptive: whether that is divided by the root of the mean square, 1 or 0.
    """

    method: str
    horizons: tuple[float, ...]
    momentum: float = 0.9
    backward: str = STASH
    micro_batches: int = 1
    equal: str = TICKS
    strength: float = 0.0
    adaptive: float = 0.0

    def __str__(self) -> str:
        if self.method == GPIPE:
            return f"m = {self.micro_batches}"
        shown = [f"momentum {self.momentum:g}"]
        if any(self.horizons):
            shown.append(f"s = {' '.join(f'{s:g}' for s in self.horizons)}")
        if self.method == DC_ASGD:
            shown.append(f"{'adaptive ' * bool(self.adaptive)}λ = {self.strength:g}")
        return ", ".join(shown)

    def steps(self, stages: int, ticks: int) -> int:
        """How many ticks of the pipeline, or steps of GPipe, a run has."""
        if self.method != GPIPE:
            return ticks
        examples = self.equal == EXAMPLES
        length = self.micro_batches if examples else flushed_ticks(stages, self.micro_batches)
        return ticks // length

    def ticks_each(self, stages: int) -> int:
        """How many ticks one of them takes."""
        return flushed_ticks(stages, self.micro_batches) if self.method == GPIPE else 1


class Arm(NamedTuple):
    """A row of the tables.

    Attributes:
        summary: one line about it.
        settings: what it chooses from, given the number of stages.
    """

    summary: str
    settings: Callable[[int], Sequence[Setting]]

    @property
    def is_flushed(self) -> bool:
        """Whether it is GPipe."""
        return self.settings(1)[0].method == GPIPE


def _each(extra: int = 0, method: str = LINEAR, backward: str = STASH) -> Callable[..., list]:
    def settings(stages: int) -> list[Setting]:
        horizons = tuple(float(delay(stages, stage) + extra) for stage in range(stages))
        return [Setting(method, horizons, backward=backward)]

    return settings


def _uniform(horizon: Callable[[int], float], **options: str) -> Callable[[int], list[Setting]]:
    def settings(stages: int) -> list[Setting]:
        given = {"method": LINEAR} | options
        return [Setting(horizons=(float(horizon(stages)),) * stages, **given)]  # pyright: ignore

    return settings


def _longest(stages: int) -> float:
    return delay(stages, 0)


def _longest_and_one(stages: int) -> float:
    return delay(stages, 0) + 1


def _half(stages: int) -> float:
    return delay(stages, 0) / 2


def _reversed(stages: int) -> list[Setting]:
    return [Setting(LINEAR, tuple(float(delay(stages, stage)) for stage in range(stages))[::-1])]


def _nothing(stages: int) -> float:
    del stages
    return 0.0


def _momenta(stages: int) -> list[Setting]:
    return [Setting(LINEAR, (0.0,) * stages, momentum) for momentum in (0.0, 0.5, 0.8, 0.9)]


def _dc_asgd(stages: int) -> list[Setting]:
    nowhere = (0.0,) * stages
    tried = ((0.04, 0.0), (1.0, 0.0), (0.5, 1.0), (2.0, 1.0))
    return [Setting(DC_ASGD, nowhere, strength=each, adaptive=root) for each, root in tried]


def _flushed(equal: str) -> Callable[[int], list[Setting]]:
    def settings(stages: int) -> list[Setting]:
        numbers = dict.fromkeys((1, stages, 4 * stages))
        horizons = (0.0,) * stages
        return [Setting(GPIPE, horizons, micro_batches=m, equal=equal) for m in numbers]

    return settings


NONE, EACH, UNIFORM, WAITING = "none", "s=tau", "uniform", "gpipe"

ARMS: Mapping[str, Arm] = {
    NONE: Arm("no prediction", _uniform(_nothing)),
    EACH: Arm("each stage as far as its own delay", _each()),
    "s=tau+1": Arm("one step further", _each(1)),
    "zero-gradient": Arm("zero gradient, τ_i + 1 steps", _each(1, ZERO_GRADIENT)),
    UNIFORM: Arm("every stage as far as the longest delay", _uniform(_longest)),
    "uniform-zero-gradient": Arm(
        "zero gradient, longest delay + 1 steps", _uniform(_longest_and_one, method=ZERO_GRADIENT)
    ),
    "uniform-half": Arm("every stage half as far as the longest delay", _uniform(_half)),
    "reversed": Arm("each stage as far as the delay of the stage opposite", _reversed),
    "momentum": Arm("no prediction, momentum tuned as well", _momenta),
    "nesterov": Arm("Nesterov's momentum or NAdam", _uniform(_nothing, method=NESTEROV)),
    "none-current": Arm("none, nothing stashed", _uniform(_nothing, backward=CURRENT)),
    "s=tau-predicted": Arm(
        "s=tau, backward passes at the predicted weights", _each(backward=PREDICTED)
    ),
    "s=tau-current": Arm("s=tau, backward passes at the current weights", _each(backward=CURRENT)),
    "uniform-predicted": Arm(
        "uniform, backward passes at the predicted weights", _uniform(_longest, backward=PREDICTED)
    ),
    "uniform-current": Arm(
        "uniform, backward passes at the current weights", _uniform(_longest, backward=CURRENT)
    ),
    "pipemare": Arm(
        "PipeMare's rate by delay, backward passes at the current weights",
        _uniform(_nothing, method=PIPEMARE, backward=CURRENT),
    ),
    "pipemare-corrected": Arm(
        "PipeMare's rate, backward passes at its estimate of the weights of the forward pass",
        _uniform(_nothing, method=PIPEMARE, backward=ESTIMATED),
    ),
    "dc-asgd": Arm("DC-ASGD's second-order correction", _dc_asgd),
    WAITING: Arm("GPipe with as many ticks, m tuned", _flushed(TICKS)),
    "gpipe-examples": Arm("GPipe with as many examples, m tuned", _flushed(EXAMPLES)),
}
