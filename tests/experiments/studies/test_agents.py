"""The command ``agents``: its tuning, its tests, its results."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from run_files import read_meta, read_records, read_table

from experiments.cli import main
from experiments.page import page_text
from experiments.statistics import holm, paired_p_value
from experiments.studies.agents import page, work
from experiments.studies.agents.ask import (
    COMPARISONS,
    Config,
    Record,
    registered,
    score_of,
)
from experiments.studies.agents.learn import Learnt
from experiments.studies.agents.verdicts import best_is_inside, reported, verdicts
from experiments.tuning import REPORTED, TUNING

BEST = {"plain": 0, "nesterov": 2, "s=1": 5, "s=2": 0, "s=3": -4}
"""Of each arm, the factor of 2 to the usual rate that returns most."""

GAINS = {"plain": 0.0, "nesterov": 10.0, "s=1": 0.0, "s=2": 20.0, "s=3": -10.0}


def make_known_training(config, environment, arm):
    """What an arm would return if it were known: most at its best rate, by seed a bit more."""
    assert environment.actions == 2

    def train(seeds, rates):
        assert len(seeds) == len(rates) == config.at_once, "one compiled program trains all"
        far = jnp.abs(jnp.log2(rates / config.usual_rate) - BEST[arm])
        reached = 300 + GAINS[arm] - 20 * far + jnp.sin(seeds * (3 + len(arm)))
        curves = reached[:, None] * jnp.linspace(0, 1, config.updates)
        # Weights of a run at the seed 2 end with a number that is not finite.
        return Learnt({"w": jnp.where(seeds == 2, math.nan, 1.0)[:, None]}, curves)

    return train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agents") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "make_training", make_known_training)
        options = "--updates 20 --seeds 11 --tuning-seeds 1000 1001 1002"
        assert main(["agents", *options.split(), "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def records(folder):
    return [Record(**record) for record in read_records(folder)]


CONFIG = Config(updates=20).completed()


def test_every_arm_gets_the_best_rate_of_its_own_grid(records):
    assert list(reported(records)) == list(BEST)
    for arm, run in reported(records).items():
        assert run.learning_rate == CONFIG.usual_rate * 2.0 ** BEST[arm]
        assert best_is_inside(run, records, CONFIG)
        tried = [r for r in records if r.arm == arm and r.purpose == TUNING]
        assert {tuple(r.seeds) for r in tried} == {(1000, 1001, 1002)}
        factors = np.log2([r.learning_rate / CONFIG.usual_rate for r in tried])
        np.testing.assert_array_equal(np.diff(factors), 1), "no rate is left out"
        beside = [r for r in tried if r.learning_rate >= run.learning_rate]
        assert not best_is_inside(run, [run, *beside], CONFIG)


def test_a_record_keeps_the_means_of_its_curves(records):
    for run in records:
        assert len(run.area) == len(run.final) == len(run.diverged) == len(run.seeds)
        if run.purpose == REPORTED:
            curves = np.array(run.curve)
            assert curves.shape == (11, 20)
            np.testing.assert_allclose(run.area, curves.mean(axis=1), rtol=1e-5)
            np.testing.assert_allclose(run.final, curves[:, 18:].mean(axis=1), rtol=1e-5)
            assert run.diverged == [seed == 2 for seed in range(11)]
        else:
            assert run.curve == []
            assert score_of(run, CONFIG) == pytest.approx(500 - np.mean(run.area))


def test_what_is_tested_is_corrected_over_both_measures(records):
    found = verdicts(records)
    runs = reported(records)
    assert [(v.arm, v.reference) for v in found] == 2 * list(COMPARISONS)
    pairs = [
        (getattr(runs[v.arm], v.measure), getattr(runs[v.reference], v.measure)) for v in found
    ]
    expected = holm([paired_p_value(*pair) for pair in pairs])
    np.testing.assert_allclose([v.p_value for v in found], expected)
    said = {(v.measure, v.arm, v.reference): v.text for v in found}
    for measure in ("area", "final"):
        assert said[measure, "s=2", "plain"] == "better"
        assert said[measure, "s=3", "plain"] == "worse"
        assert said[measure, "s=1", "plain"] == "no difference shown"
        assert said[measure, "s=1", "nesterov"] == "worse"
        assert said[measure, "s=2", "nesterov"] == "better"
    means = np.subtract(*pairs[0]).mean()
    assert found[0].difference.mean == pytest.approx(means)


def test_the_report_shows_returns_rates_and_curves(folder, records):
    assert (folder / "returns.png").stat().st_size > 5_000
    rows = read_table(folder, "Every arm after 20 updates")
    assert [row[0] for row in rows] == list(BEST)
    for row in rows:
        run = reported(records)[row[0]]
        assert float(row[1].split()[0]) == pytest.approx(np.mean(run.area), abs=1)
        assert float(row[2].split()[0]) == pytest.approx(np.mean(run.final), abs=1)
        assert row[3:] == ["1/11", f"{run.learning_rate:.3g}"]
    text = (folder / "report.md").read_text()
    assert "registered.toml" not in text, "it was no registered row"
    assert "at the edge" not in text
    alone = [r for r in records if r.purpose == REPORTED]
    said = page_text(page, alone, CONFIG, read_meta(folder))
    assert "The best rate is at the edge of its grid for plain, nesterov, s=1, s=2, s=3." in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--row nothing", "unknown row 'nothing'; valid: cartpole, acrobot"),
        ("--environment Pong", "unknown environment 'Pong'; valid: CartPole-v1, Acrobot-v1"),
        ("--arms s=9", "unknown arm 's=9'; valid: plain, nesterov, s=1"),
        ("--tuning-seeds 3 1000", "seeds [3] are for tuning and for reporting"),
    ],
)
def test_bad_usage_is_one_line(options, message, capsys):
    assert main(["agents", *options.split()]) == 2
    assert message in capsys.readouterr().err


def test_registered_rows_can_be_run():
    for name in registered():
        config = Config(row=name).completed()
        assert config.items() == list(BEST)
        assert len(config.seeds) >= 40
        assert len(config.tuning_seeds) >= 8
