"""Which agents are trained and compared, and what that leaves."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.arms import NESTEROV, PLAIN, arm_of
from experiments.errors import require
from experiments.kinds import count, seed
from experiments.options import choice, derived, fixed, many, names, one, output, seeds
from experiments.registered import check_apart, read_rows, row_named
from experiments.study import Study

_PACKAGES = ("gymnax", "six")  # gymnax imports six and does not say so

REGISTERED = Path(__file__).with_name("registered.toml")

ARMS = (PLAIN, NESTEROV, arm_of(1.0), arm_of(2.0), arm_of(3.0))
"""Of Adam, so that ``nesterov`` is NAdam."""

COMPARISONS = (
    *((arm, PLAIN) for arm in ARMS if arm != PLAIN),
    *((arm, NESTEROV) for arm in ARMS if arm not in (PLAIN, NESTEROV)),
)
"""What is tested, on both measures, corrected together by Holm's method."""

MEASURES = {"area": "mean return", "final": "return at the end"}
"""What arms are judged by -> its title."""

JUDGED = "area"
"""The measure that rates are chosen by: that of the end says nothing where all end at the limit."""


class Scale(NamedTuple):
    """How an environment is learnt, by what two cores can do.

    Attributes:
        updates: how often the policy acts and then learns.
        highest: no episode returns more.
        lowest: no episode returns less; what an actor counts with before its first episode ends.
        usual_rate: the rate around which grids begin.
    """

    updates: int
    highest: float
    lowest: float
    usual_rate: float


ENVIRONMENTS: Mapping[str, Scale] = {
    "CartPole-v1": Scale(updates=30, highest=500.0, lowest=0.0, usual_rate=8e-3),
    "Acrobot-v1": Scale(updates=60, highest=0.0, lowest=-500.0, usual_rate=2e-3),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of ``python -m experiments agents``."""

    row: str | None = one(
        str, None, "NAME", "a registered row, which says all but the folder", shown=""
    )
    environment: str = choice("environment", ENVIRONMENTS, "CartPole-v1")
    arms: tuple[str, ...] = names("arm", ARMS)
    updates: int = one(
        count, None, "N", "how often the policy acts and learns", shown="the environment's"
    )
    seeds: tuple[int, ...] = seeds(16)
    tuning_seeds: tuple[int, ...] = many(
        seed, tuple(range(1000, 1008)), "N", "seeds that rates are chosen on"
    )
    output: Path | None = output()
    highest: float = derived("no episode returns more")
    lowest: float = derived("no episode returns less")
    usual_rate: float = derived("the rate around which grids begin")
    rates: int = fixed(5, "rates that a tuning begins with, a factor of 2 apart")
    most_rates: int = fixed(15, "rates after which it is not extended")
    at_once: int = fixed(8, "runs side by side in one program")
    actors: int = fixed(8, "environments that one policy acts in side by side")
    steps: int = fixed(128, "steps of each actor before an update")
    epochs: int = fixed(4, "passes over what the actors saw")
    minibatches: int = fixed(4, "steps of the optimizer in a pass")
    hidden: tuple[int, ...] = fixed((64, 64), "widths of policy and of value network")
    discount: float = fixed(0.99, "γ")
    trace: float = fixed(0.95, "λ of generalized advantage estimation")
    clip: float = fixed(0.2, "how far a probability's ratio counts from 1")
    value_weight: float = fixed(0.5, "weight of the value's squared error")
    entropy_weight: float = fixed(0.01, "weight of the entropy bonus")
    clip_norm: float = fixed(0.5, "largest norm of a gradient")

    def completed(self) -> "Config":
        """Reads the row, if one is asked for, and what the environment says."""
        config = dataclasses.replace(self, **row_named(self.row, registered()))
        require(*_PACKAGES)
        check_apart(config.seeds, config.tuning_seeds)
        scale = ENVIRONMENTS[config.environment]
        return dataclasses.replace(
            config, **scale._asdict() | {"updates": config.updates or scale.updates}
        )

    def items(self) -> list[str]:
        """Returns the arms."""
        return list(self.arms)


def registered() -> Mapping[str, Mapping[str, Any]]:
    """Returns the registered rows by name, as fields of :class:`Config`."""
    return read_rows(REGISTERED)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One arm at one rate: one line of ``runs.jsonl``; lists go by ``seeds``.

    A return is that of each actor's latest complete episode, averaged over actors and steps. A run
    that diverged acts on and counts with what it returns.

    Attributes:
        arm: its name.
        purpose: ``"tuning"`` or ``"reported"``.
        learning_rate: the rate.
        seeds: the seeds.
        area: mean return over all updates, the area under the learning curve by its length.
        final: mean return over the last tenth of the updates.
        diverged: whether the weights ended with a number that is not finite.
        curve: mean return of each update, ``[seeds][updates]``; none for tuning.
    """

    arm: str
    purpose: str
    learning_rate: float
    seeds: list[int]
    area: list[float]
    final: list[float]
    diverged: list[bool]
    curve: list[list[float]]


def score_of(record: Record, config: Config) -> float:
    """Returns what rates are chosen by: how much an episode falls short of the highest return."""
    values = getattr(record, JUDGED)
    return config.highest - sum(values) / len(values)


STUDY = Study(
    name="agents",
    summary="train agents by PPO, with and without prediction, and compare their returns",
    about=(
        "Trains policies by PPO with Adam, NAdam and Adam with prediction. Every arm has its own "
        "rate, chosen by other seeds from a grid that is extended until the best rate lies "
        "inside. All seeds of an arm train side by side in one compiled program. Writes report.md, "
        "returns.png, runs.jsonl and meta.json to a new folder. Ctrl-C keeps the arms that have "
        "finished. Needs gymnax: python -m pip install '.[agents]'. Less than three minutes on two "
        "cores."
    ),
    config=Config,
    folder="agents-{environment}",
    place=77,
)
