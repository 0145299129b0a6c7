"""Does a horizon that sets itself do better than the best fixed one? The command ``horizon``."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from rich.table import Table

import xgrad_optax
from experiments.arms import horizon_label
from experiments.folder import META_FILE, RUNS_FILE
from experiments.page import TABLE_STYLE, markdown_table
from experiments.provenance import describe_origin
from experiments.runs import publish, run_all, shortfall
from experiments.stability.config import HorizonConfig
from experiments.stability.horizon import MARGIN, MEMORY, stable_horizon
from experiments.stability.problems import Problem
from experiments.statistics import Interval, paired_difference
from experiments.training.batches import epoch_batches, number_of_examples, take

AUTO = "auto"
_FAILED = 0.9  # of the initial loss: a run that ends above has learned nothing


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to choose s at one learning rate; ``s`` is None for the horizon that sets itself."""

    learning_rate: float
    s: float | None

    @property
    def label(self) -> str:
        """How reports call it."""
        return AUTO if self.s is None else horizon_label(self.s)

    def __str__(self) -> str:
        return f"γ={self.learning_rate:g} {self.label}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One arm at one seed: one line of ``runs.jsonl``. None stands for a non-finite number.

    Attributes:
        learning_rate: γ.
        arm: ``"s=1"`` or ``"auto"``.
        seed: of initial parameters and batches.
        failed: whether training ended near the loss it began with, above it, or at none.
        early_loss: mean loss of the batches in the first quarter, at the predicted parameters.
        train_loss: loss on all training examples after the last step.
        held_out_loss: the same on held-out examples.
        s_quartiles: the quartiles of s over all steps.
    """

    learning_rate: float
    arm: str
    seed: int
    failed: bool
    early_loss: float | None
    train_loss: float | None
    held_out_loss: float | None
    s_quartiles: list[float]


def trial(problem: Problem, config: HorizonConfig, folder: Path) -> bool:
    """Trains every arm at every seed and writes the report.

    Args:
        problem: what is trained.
        config: what to compare.
        folder: where the results go; exists and holds no results.

    Returns:
        Whether all arms finished; False after Ctrl-C.
    """
    arms = [Arm(rate, s) for rate in config.learning_rates for s in (*config.horizons, None)]
    run = _make_run(problem, config)

    def work(arm: Arm) -> list[TrialRecord]:
        return [_record(arm, seed, run(arm, seed)) for seed in config.seeds]

    records, meta = run_all(arms, work, name=str, noun="arms", folder=folder, configuration=config)
    report = "\n".join(_markdown(records, config, meta)) + "\n"
    publish(folder, report, _table(records) if records else None, [shortfall("arms", meta)])
    return meta["status"] == "complete"


def _make_run(problem: Problem, config: HorizonConfig) -> Any:
    """Compiles training with a given s, and with one that sets itself, each once."""

    @functools.partial(jax.jit, static_argnames="auto")
    def run(examples: Any, seed: Any, rate: Any, s: Any, auto: bool) -> Any:
        init, order = jax.random.split(jax.random.key(seed))
        params = problem.init(init)
        batches = jax.vmap(
            lambda key: epoch_batches(key, number_of_examples(examples), problem.batch_size)
        )(jax.random.split(order, config.epochs))
        tx: Any
        lookahead_params, tx = (
            stable_horizon(rate, config.momentum, config.s_max)
            if auto
            else xgrad_optax.sgdm(rate, s=s, momentum=config.momentum)
        )

        def step(carry: Any, indices: Any) -> Any:
            params, state = carry
            point = lookahead_params(params, state)
            loss, grads = jax.value_and_grad(problem.loss)(point, take(examples, indices))
            updates, state = tx.update(grads, state, params)
            used = state.s if auto else s
            return (optax.apply_updates(params, updates), state), (loss, used)

        steps = batches.reshape(-1, problem.batch_size)
        (after, _), (losses, horizons) = jax.lax.scan(step, (params, tx.init(params)), steps)
        ends = [problem.loss(params, examples), problem.loss(after, examples)]
        return losses, horizons, *ends, problem.loss(after, problem.held_out)

    def run_arm(arm: Arm, seed: int) -> Any:
        arguments = (np.uint32(seed), np.float32(arm.learning_rate), np.float32(arm.s or 0))
        return jax.tree.map(np.asarray, run(problem.train, *arguments, auto=arm.s is None))

    return run_arm


def _record(arm: Arm, seed: int, outcome: Any) -> TrialRecord:
    losses, horizons, before, after, held_out = outcome
    early = losses[: -(-len(losses) // 4)]
    return TrialRecord(
        learning_rate=arm.learning_rate,
        arm=arm.label,
        seed=seed,
        failed=not after <= _FAILED * before,
        early_loss=_finite(early.mean()),
        train_loss=_finite(after),
        held_out_loss=_finite(held_out),
        s_quartiles=[float(s) for s in np.quantile(horizons, [0.25, 0.5, 0.75]).round(3)],
    )


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


# --------------------------------------------------------------------------------------------------
# The report
# --------------------------------------------------------------------------------------------------

_HEADER = (
    "γ",
    "arm",
    "failed",
    "early loss",
    "train loss",
    "held-out loss",
    "auto / this: train loss",
    "s, quartiles",
)


def _rows(records: Sequence[TrialRecord]) -> Iterator[list[str]]:
    groups = _by_arm(records)
    for (rate, arm), runs in groups.items():
        auto = groups.get((rate, AUTO), [])
        ratio = _ratio(auto, runs) if arm != AUTO and len(auto) == len(runs) else None
        quartiles = np.mean([run.s_quartiles for run in runs], axis=0)
        yield [
            f"{rate:g}",
            arm,
            f"{sum(run.failed for run in runs)} of {len(runs)}",
            *(_median(runs, name) for name in ("early_loss", "train_loss", "held_out_loss")),
            "" if ratio is None else _format_ratio(ratio),
            " ".join(f"{s:.2f}" for s in quartiles),
        ]


def _by_arm(records: Sequence[TrialRecord]) -> Mapping[tuple[float, str], list[TrialRecord]]:
    groups: dict[tuple[float, str], list[TrialRecord]] = {}
    for record in records:
        groups.setdefault((record.learning_rate, record.arm), []).append(record)
    return groups


def _median(runs: Sequence[TrialRecord], name: str) -> str:
    values = [getattr(run, name) for run in runs]
    return f"{np.median([math.inf if value is None else value for value in values]):.4g}"


def _ratio(auto: Sequence[TrialRecord], runs: Sequence[TrialRecord]) -> Interval | None:
    """The mean logarithm of the ratio of training losses, paired by seed; None if one has none."""
    losses = [[run.train_loss for run in side] for side in (auto, runs)]
    if any(loss is None for side in losses for loss in side):
        return None
    return paired_difference(*(np.log(np.array(side, float)) for side in losses))


def _format_ratio(ratio: Interval) -> str:
    middle, half_width = ratio
    text = f"{math.exp(middle):.2f}"
    if not ratio.is_defined:
        return text
    star = "*" if ratio.excludes_zero else ""
    low, high = math.exp(middle - half_width), math.exp(middle + half_width)
    return f"{text} [{low:.2f}, {high:.2f}]{star}"


def _table(records: Sequence[TrialRecord]) -> Table:
    table = Table(title="Medians over seeds; * where the 95 % interval excludes 1", **TABLE_STYLE)
    for title in _HEADER:
        table.add_column(title, justify="left" if title == "arm" else "right")
    previous = None
    for row in _rows(records):
        if row[0] != previous:
            table.add_section()
        table.add_row(*row)
        previous = row[0]
    return table


def _markdown(
    records: Sequence[TrialRecord], config: HorizonConfig, meta: dict[str, Any]
) -> Iterator[str]:
    yield f"# A horizon that sets itself, on {config.problem}"
    yield f"\n{describe_origin(meta)}"
    if missing := shortfall("arms", meta):
        yield f"\n**Note:** {missing}."
    yield ""
    yield from markdown_table(
        _HEADER, ([cell.replace("*", "\\*") for cell in row] for row in _rows(records))
    )
    yield (
        f"\nSGDM with momentum {config.momentum:g}, {config.epochs} epochs, seeds "
        f"{', '.join(map(str, config.seeds))}; `auto` has s_max = {config.s_max:g}, memory "
        f"{MEMORY:g} and margin {MARGIN:g}. Losses are medians over seeds. The ratio is the "
        "geometric mean over seeds, each against the same seed, with its 95 % interval; a star "
        f"marks one that excludes 1. A run has failed if it ends above {_FAILED:g} of the loss it "
        f"began with. Every run: `{RUNS_FILE}`; versions and device: `{META_FILE}`."
    )
