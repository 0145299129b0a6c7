"""Chooses rate and setting of an arm on the tuning seeds, then trains the reported ones."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from experiments.errors import UsageError
from experiments.folder import number
from experiments.progress import Progress
from experiments.studies.delay.arms import ARMS, Setting
from experiments.studies.delay.ask import JUDGED, Config, Item, Record
from experiments.studies.delay.simulate import Measured, Run, Simulator
from experiments.tasks import load_task
from experiments.tuning import REPORTED, TUNING, Scores, best_rate, tuned


def prepare(config: Config, progress: Progress) -> Callable[[Item], list[Record]]:
    """Loads the data and draws what is random; returns what tunes and trains an arm."""
    task = load_task(config.task)
    if task.score:
        raise UsageError(f"the task {config.task} is measured by more than means; take another")
    trainer = Trainer(config, Simulator(config, task), task.protocol.learning_rates)
    return lambda item: trainer.records_of(item, progress)


class Trainer:
    """Tunes and trains arms; a setting that several arms share is tuned once."""

    def __init__(self, config: Config, simulator: Simulator, usual: Mapping[str, float]) -> None:
        """Takes what trains, and the usual rate of each optimizer, around which grids begin."""
        self._config, self._simulator, self._usual = config, simulator, usual
        self._tried: dict[tuple[str, int, Setting], dict[int, Record]] = {}

    def records_of(self, item: Item, progress: Progress) -> list[Record]:
        """Returns a record of each setting and rate that was tried, and that of the best."""
        settings = ARMS[item.arm].settings(item.delay)
        records, chosen = [], []
        for at, setting in enumerate(settings):
            progress.within(at / (len(settings) + 1), f"tuning {setting}")
            scores, tried = self._tuned(item, setting)
            best = best_rate(scores)
            chosen.append((scores[best], at, best))
            records += tried
        progress.within(len(settings) / (len(settings) + 1), "reported seeds")
        _, at, best = min(chosen)
        return [*records, *self._trained(item, settings[at], [best], REPORTED)]

    def _tuned(self, item: Item, setting: Setting) -> tuple[Scores, list[Record]]:
        """The scores of all rates that were tried, and their records under this arm's name."""
        known = self._tried.setdefault((item.optimizer, item.delay, setting), {})

        def score(rates: Sequence[int]) -> Scores:
            new = [rate for rate in rates if rate not in known]
            known.update(zip(new, self._trained(item, setting, new, TUNING), strict=True))
            return {rate: fmean(known[rate].counted(JUDGED)) for rate in rates}

        first = -self._config.rates // 2 - round(math.log2(1 + item.delay))
        scores = tuned(score, range(first, first + self._config.rates), self._config.most_rates)
        tried = [dataclasses.replace(known[rate], arm=item.arm) for rate in sorted(scores)]
        return scores, tried

    def _trained(
        self, item: Item, setting: Setting, rates: Sequence[int], purpose: str
    ) -> list[Record]:
        """One record for each rate."""
        if not rates:
            return []
        seeds = self._config.seeds if purpose == REPORTED else self._config.tuning_seeds
        learning_rates = [self._usual[item.optimizer] * 2.0**rate for rate in rates]
        runs = [Run(seed, rate, setting) for rate in learning_rates for seed in seeds]
        found = self._simulator.train(item.optimizer, item.delay, runs)
        begun = zip(*(self._simulator.start[seed] for seed in seeds), strict=True)
        start = {name: list(map(_short, values)) for name, values in _named(begun)}

        def record(at: int, rate: float) -> Record:
            own = slice(at * len(seeds), (at + 1) * len(seeds))
            ended = {name: list(map(_short, values[own])) for name, values in _named(found)}
            return Record(
                optimizer=item.optimizer,
                delay=item.delay,
                arm=item.arm,
                purpose=purpose,
                setting=setting._asdict(),
                learning_rate=rate,
                seeds=list(seeds),
                start=start,
                **ended,
            )

        return [record(at, rate) for at, rate in enumerate(learning_rates)]


def _named(columns: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    return zip(Measured._fields, columns, strict=True)


def _short(value: Any) -> Any:
    return number(value, 6)
