"""Trains every arm, seed by seed."""

import functools
from collections.abc import Callable, Iterable

from experiments.folder import number
from experiments.progress import Progress
from experiments.studies.predict_gradients.ask import Config, Record
from experiments.studies.predict_gradients.problems import load_problem
from experiments.studies.predict_gradients.program import Program, compile_all
from experiments.studies.predict_gradients.race import Runner, race

_DIGITS = 5  # of what is measured


def prepare(config: Config, progress: Progress) -> Callable[[int], list[Record]]:
    """Loads the data; returns what trains all arms at a seed."""
    problem = load_problem(config.problem)
    splits = problem.load(config.data_dir)

    @functools.cache  # once, and not before the run is on record
    def programs() -> list[Program]:
        return compile_all(problem, config, splits.train, lambda text: progress.within(0.0, text))

    def run_seed(seed: int) -> list[Record]:
        show = functools.partial(progress.within, text="training")
        runners = race(programs(), splits, seed, config, show)
        return [make_record(runner, seed) for runner in runners]

    return run_seed


def make_record(runner: Runner, seed: int) -> Record:
    """Turns what a runner measured into its record."""
    arm, costs = runner.program.arm, runner.program.costs
    seconds, flops, steps, loss, accuracy, fractions, rho = zip(*runner.checkpoints, strict=True)
    return Record(
        arm=str(arm),
        kind=arm.kind,
        batch_size=arm.batch_size,
        learning_rate=arm.learning_rate,
        seed=seed,
        cost_ratio_flops=number(costs.ratio, _DIGITS),
        cost_ratio_seconds=number(runner.program.cost_ratio_seconds, _DIGITS),
        test_accuracy=number(runner.test_accuracy(), _DIGITS),
        rejected=runner.rejected(),
        seconds=[round(s, 4) for s in seconds],
        flops=list(flops),
        steps=list(steps),
        loss=_curve(loss),
        accuracy=[round(a, 3) for a in accuracy],
        control_fraction=_curve(fractions),
        rho=_curve(rho),
    )


def _curve(values: Iterable[float]) -> list[float | None]:
    return [number(value, _DIGITS) for value in values]
