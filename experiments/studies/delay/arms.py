"""The arms of the study: what is done about gradients that arrive late.

An arm has one or more *settings*, of which the tuning seeds choose together with the rate. The
numbers of a setting are arguments of a compiled program, so that all settings of one ``method``
share it. Importing this needs no JAX.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

PLAIN, MOMENTUM, AHEAD = "plain", "momentum", "s=tau+1"
WORKERS = 4
"""Among how many workers the in-flight arm splits a batch."""

# Methods: what is compiled for them differs.
LINEAR, ZERO_GRADIENT, IN_FLIGHT = "linear", "zero-gradient", "in-flight"
NESTEROV, PIPEMARE, DC_ASGD = "nesterov", "pipemare", "dc-asgd"


class Setting(NamedTuple):
    """Everything about an arm but its learning rate.

    Attributes:
        method: which program it is trained by.
        momentum: SGDM's μ, Adam's β₁.
        horizon: steps predicted ahead.
        strength: of the method's own correction: 1 turns PipeMare's on; DC-ASGD's λ.
        adaptive: whether DC-ASGD's λ is divided by the root of the mean square, 1 or 0.
    """

    method: str
    momentum: float = 0.9
    horizon: float = 0.0
    strength: float = 0.0
    adaptive: float = 0.0

    def __str__(self) -> str:
        shown = [f"momentum {self.momentum:g}"]
        if self.horizon:
            shown.append(f"s = {self.horizon:g}")
        if self.method == DC_ASGD:
            shown.append(f"{'adaptive ' * bool(self.adaptive)}λ = {self.strength:g}")
        return ", ".join(shown)


class Arm(NamedTuple):
    """A row of the tables, a line of the plot.

    Attributes:
        summary: one line about it.
        settings: what it chooses from at a delay.
        synchronous: whether it also runs without delay.
    """

    summary: str
    settings: Callable[[int], Sequence[Setting]]
    synchronous: bool = False


def _damped(momentum: float) -> Callable[[int], Sequence[Setting]]:
    return lambda delay: [Setting(ZERO_GRADIENT, momentum, delay + 1)]


def _dc_asgd(delay: int) -> Sequence[Setting]:
    del delay
    constant = [Setting(DC_ASGD, strength=strength) for strength in (0.04, 1.0)]
    adaptive = [Setting(DC_ASGD, strength=strength, adaptive=1.0) for strength in (0.5, 2.0)]
    return [*constant, *adaptive]


ARMS: Mapping[str, Arm] = {
    PLAIN: Arm("no prediction", lambda delay: [Setting(LINEAR)], synchronous=True),
    MOMENTUM: Arm(
        "no prediction, momentum tuned as well",
        lambda delay: [Setting(LINEAR, momentum) for momentum in (0.0, 0.5, 0.8, 0.9)],
    ),
    "s=tau": Arm("closed form, as far as the delay", lambda delay: [Setting(LINEAR, 0.9, delay)]),
    AHEAD: Arm(
        "closed form, one step further",
        lambda delay: [Setting(LINEAR, 0.9, delay + 1)],
        synchronous=True,
    ),
    "zero-gradient": Arm("zero gradient, tau + 1 steps", _damped(0.9)),
    "zero-gradient-0.95": Arm("the same with momentum 0.95", _damped(0.95)),
    "zero-gradient-0.99": Arm("the same with momentum 0.99", _damped(0.99)),
    "in-flight": Arm(
        f"each of {WORKERS} workers rolls out over its own gradients in flight",
        lambda delay: [Setting(IN_FLIGHT, 0.9, delay + 1)],
    ),
    "nesterov": Arm(
        "Nesterov's momentum or NAdam", lambda delay: [Setting(NESTEROV)], synchronous=True
    ),
    "pipemare": Arm("PipeMare's rate by delay", lambda delay: [Setting(PIPEMARE)]),
    "pipemare-corrected": Arm(
        "PipeMare's rate and its correction by the mean drift",
        lambda delay: [Setting(PIPEMARE, 0.9, delay, strength=1.0)],
    ),
    "dc-asgd": Arm("DC-ASGD's second-order correction", _dc_asgd),
}
