"""Chooses rate and setting of an arm on the tuning seeds, then trains the reported ones."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from experiments.folder import number
from experiments.progress import Progress
from experiments.studies.pipeline.arms import ARMS, GPIPE, Setting
from experiments.studies.pipeline.ask import Config, Record
from experiments.studies.pipeline.counts import delay
from experiments.studies.pipeline.networks import NETWORKS
from experiments.studies.pipeline.simulate import Run, Simulator
from experiments.tuning import REPORTED, TUNING, Scores, best_rate, tuned


def prepare(config: Config, progress: Progress) -> Callable[[str], list[Record]]:
    """Loads the data and draws what is random; returns what tunes and trains an arm."""
    trainer = Trainer(config, Simulator(config))
    return lambda arm: trainer.records_of(arm, progress)


class Trainer:
    """Tunes and trains arms."""

    def __init__(self, config: Config, simulator: Simulator) -> None:
        """Takes what trains."""
        self._config, self._simulator = config, simulator

    def records_of(self, arm: str, progress: Progress) -> list[Record]:
        """Returns a record of each setting and rate that was tried, and that of the best."""
        settings = ARMS[arm].settings(self._config.stages)
        records, chosen = [], []
        for at, setting in enumerate(settings):
            progress.within(at / (len(settings) + 1), f"tuning {setting}")
            tried = self._tuned(arm, setting)
            scores = {rate: score_of(record) for rate, record in tried.items()}
            best = best_rate(scores)
            chosen.append((scores[best], at, best))
            records += [tried[rate] for rate in sorted(tried)]
        progress.within(len(settings) / (len(settings) + 1), "reported seeds")
        _, at, best = min(chosen)
        return [*records, *self._trained(arm, settings[at], [best], REPORTED)]

    def _tuned(self, arm: str, setting: Setting) -> dict[int, Record]:
        """Returns the records of all rates that were tried."""
        known: dict[int, Record] = {}

        def score(rates: Sequence[int]) -> Scores:
            known.update(zip(rates, self._trained(arm, setting, rates, TUNING), strict=True))
            return {rate: score_of(known[rate]) for rate in rates}

        first = -(self._config.rates // 2) - self._lower(setting)
        tuned(score, range(first, first + self._config.rates), self._config.most_rates)
        return known

    def _lower(self, setting: Setting) -> int:
        """By how many factors of 2 a grid begins lower, where gradients are late."""
        if setting.method == GPIPE:
            return 0
        return round(math.log2(1 + delay(self._config.stages, 0)))

    def _trained(
        self, arm: str, setting: Setting, rates: Sequence[int], purpose: str
    ) -> list[Record]:
        """One record for each rate."""
        config = self._config
        seeds = config.seeds if purpose == REPORTED else config.tuning_seeds
        usual = NETWORKS[config.network].rates[config.optimizer]
        learning_rates = [usual * 2.0**rate for rate in rates]
        runs = [Run(seed, rate, setting) for rate in learning_rates for seed in seeds]
        shown = purpose == REPORTED
        found = self._simulator.train(runs, watched=shown)
        begun = [self._simulator.start[seed] for seed in seeds]

        def record(place: int, rate: float) -> Record:
            own = slice(place * len(seeds), (place + 1) * len(seeds))
            return Record(
                arm=arm,
                purpose=purpose,
                setting=setting._asdict(),
                learning_rate=rate,
                seeds=list(seeds),
                train_loss=_short(found.train_loss[own]),
                validation_loss=_short(found.validation_loss[own]),
                accuracy=_short(found.accuracy[own]),
                start={
                    name: _short(getattr(each, name) for each in begun)
                    for name in ("train_loss", "validation_loss", "accuracy")
                },
                at=self._simulator.points(setting) if shown else [],
                curve=[_short(curve) for curve in found.curve[own]] if shown else [],
            )

        return [record(place, rate) for place, rate in enumerate(learning_rates)]


def score_of(record: Record) -> float:
    """Returns what rates and settings are chosen by: the mean training loss."""
    return fmean(record.counted("train_loss"))


def _short(values: Any) -> Any:
    return [number(value, 6) for value in values]
