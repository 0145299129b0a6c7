"""The command ``delay``: its tuning, its figures, its results."""

import re

import numpy as np
import pytest
from run_files import read_records, read_table

from experiments.cli import main
from experiments.studies.delay.arms import ARMS, LINEAR, Setting
from experiments.studies.delay.ask import Config, Record, registered
from experiments.studies.delay.shares import best_is_inside, reported, shares
from experiments.tuning import REPORTED, TUNING, best_rate, is_inside, tuned

# --------------------------------------------------------------------------------------------------
# Tuning
# --------------------------------------------------------------------------------------------------


def grid_of(losses):
    """Scores rates from a function, and keeps which were asked for."""
    asked = []

    def score(rates):
        asked.extend(rates)
        return {rate: losses(rate) for rate in rates}

    return score, asked


@pytest.mark.parametrize("best", [-9, -2, 0, 1, 7])
def test_a_grid_is_extended_until_the_best_is_strictly_inside(best):
    score, asked = grid_of(lambda rate: 1 + abs(rate - best))
    scores = tuned(score, range(-1, 2), most=30)
    assert best_rate(scores) == best
    assert is_inside(best, scores)
    assert sorted(asked) == list(range(min(asked), max(asked) + 1)), "no gap, none twice"
    if best == 0:
        assert sorted(asked) == [-1, 0, 1], "nothing that is not needed"


def test_a_grid_that_only_falls_ends_and_is_known_to_be_open():
    scores = tuned(grid_of(lambda rate: 10.0**-rate)[0], range(5), most=11)
    assert len(scores) == 11
    assert not is_inside(best_rate(scores), scores)


def test_ties_go_to_the_rate_between_the_better_neighbours():
    scores = {0: 3.0, 1: 1.0, 2: 1.5, 3: 1.2, 4: 1.004, 5: 1.1}
    assert best_rate(scores) == 4, "1.004 is a tie with 1"
    assert best_rate(scores | {4: 1.01}) == 1, "1.01 is none"
    assert best_rate(dict.fromkeys(range(4), 2.0)) == 0, "where all are equal, the lowest"


# --------------------------------------------------------------------------------------------------
# What counts
# --------------------------------------------------------------------------------------------------


def make_record(arm, delay, losses, *, purpose=REPORTED, rate=0.1, setting=None):
    count = len(losses)
    starts = {"train_loss": 2.0, "validation_loss": 2.5, "validation_metric": 10.0}
    return Record(
        optimizer="sgdm",
        delay=delay,
        arm=arm,
        purpose=purpose,
        setting=(setting or Setting(LINEAR))._asdict(),
        learning_rate=rate,
        seeds=list(range(count)),
        train_loss=list(losses),
        validation_loss=[0.5] * count,
        validation_metric=[90.0] * count,
        start={name: [value] * count for name, value in starts.items()},
    )


def test_runs_that_diverge_count_as_having_learnt_nothing():
    record = make_record("plain", 1, [0.5, None, 7.0, 2.0])
    assert record.diverged == [False, True, True, False]
    assert record.counted("train_loss") == [0.5, 2.0, 2.0, 2.0]
    assert record.counted("validation_loss") == [0.5, 2.5, 2.5, 0.5]
    assert record.counted("validation_metric") == [90.0, 10.0, 10.0, 90.0]


def test_shares_of_known_losses():
    noise = np.array([0.0, 0.01, -0.01, 0.02])
    runs = {
        ("plain", 0): [0.1, 0.1, 0.1, 0.1],
        ("s=tau+1", 0): [0.05, 0.05, 0.05, 0.05],
        ("plain", 4): list(0.5 + noise),
        ("s=tau", 4): list(0.2 + noise),
        ("s=tau+1", 4): list(0.6 + noise + [0.001, 0, 0, 0]),
        ("nesterov", 4): [0.3, 0.9, 0.2, 0.7],
        ("plain", 1): [0.1, 0.11, 0.08, 0.11],
        ("s=tau", 1): [0.1, 0.1, 0.1, 0.1],
    }
    records = {cell: make_record(*cell, losses) for cell, losses in runs.items()}
    found = shares(records, "train_loss", "s = 0")
    assert set(found) == {cell for cell in runs if cell[1] and cell[0] != "plain"}
    np.testing.assert_allclose(found["s=tau", 4].interval.mean, 100 * 0.3 / 0.405)
    ratio = 0.3 / 0.405
    residuals = 100 * (0.3 - ratio * (0.4 + noise)) / 0.405
    half_width = 3.182446 * residuals.std(ddof=1) / 2  # Student's t, 3 degrees of freedom
    np.testing.assert_allclose(found["s=tau", 4].interval.half_width, half_width, rtol=1e-6)
    assert found["s=tau", 4].verdict == "better"
    assert found["s=tau+1", 4].verdict == "worse"
    assert found["s=tau+1", 4].interval.mean < 0
    assert found["nesterov", 4].verdict == "", "not more than chance"
    assert found["s=tau", 1].interval is None, "lateness cost nothing that four seeds show"
    against_one = shares(records, "train_loss", "s = 1")
    np.testing.assert_allclose(against_one["s=tau", 4].interval.mean, 100 * 0.3 / 0.455)
    assert not shares({("plain", 4): records["plain", 4]}, "train_loss", "s = 0")


def test_the_best_rate_is_inside_only_between_rates_of_its_own_setting():
    def tried(rate, loss, setting=None):
        return make_record("plain", 4, [loss], purpose=TUNING, rate=rate, setting=setting)

    best = make_record("plain", 4, [0.2], rate=0.1)
    beside = [tried(0.05, 0.3), tried(0.1, 0.2), tried(0.2, 0.4)]
    assert best_is_inside(best, beside, "train_loss")
    assert not best_is_inside(best, beside[1:], "train_loss")
    other = tried(0.05, 0.3, Setting(LINEAR, 0.5))
    assert not best_is_inside(best, [other, *beside[1:]], "train_loss")


# --------------------------------------------------------------------------------------------------
# The command
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(known_regression, tmp_path_factory):
    folder = tmp_path_factory.mktemp("delay") / "run"
    arms = "plain momentum s=tau+1 in-flight"
    options = f"--task regression --delays 4 0 --arms {arms} --updates 10 --seeds 10"
    assert main(["delay", *options.split(), "--output", str(folder)]) == 0
    return folder


def test_a_run_tunes_on_seeds_that_it_does_not_report(folder):
    records = [Record(**record) for record in read_records(folder)]
    cells = reported(records, "sgdm")
    assert list(cells) == [
        *(("plain", 0), ("s=tau+1", 0)),
        *(("plain", 4), ("momentum", 4), ("s=tau+1", 4), ("in-flight", 4)),
    ]
    assert {tuple(r.seeds) for r in records} == {tuple(range(10)), (1000, 1001, 1002)}
    for record in cells.values():
        assert best_is_inside(record, records, "train_loss")
    momenta = {r.setting["momentum"] for r in records if r.arm == "momentum"}
    assert momenta == {0.0, 0.5, 0.8, 0.9}
    factors = np.log2([record.learning_rate / 0.05 for record in records])
    np.testing.assert_array_equal(factors, factors.round())


def test_the_report_shows_shares_losses_and_the_plot(folder):
    assert (folder / "delays.png").stat().st_size > 5_000
    records = [Record(**record) for record in read_records(folder)]
    share = shares(reported(records, "sgdm"), "train_loss", "s = 1")["in-flight", 4]
    text = (folder / "report.md").read_text()
    section = text.partition("### sgdm, against synchronous with s = 1")[2]
    cell = re.search(r"\| in-flight \| ([^|]*) \|", section)[1]
    assert float(re.match(r"[-\d.]+", cell)[0]) == pytest.approx(share.interval.mean, rel=0.1)
    rows = read_table(folder, "Every arm")
    assert [(row[1], row[2]) for row in rows][:2] == [("0", "plain"), ("0", "s=tau+1")]
    assert "registered.toml" not in text, "it was no registered row"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--row nothing", "unknown row 'nothing'; valid: digits-sgdm"),
        ("--delays -1", "--delays: '-1' is not a whole number from 0"),
        ("--optimizers adam", "unknown optimizer 'adam'; valid: sgdm, adamw"),
        ("--tuning-seeds 3 20", "seeds [3] are for tuning and for reporting"),
    ],
)
def test_bad_usage_is_one_line(options, message, capsys):
    assert main(["delay", *options.split()]) == 2
    assert message in capsys.readouterr().err


def test_registered_rows_can_be_run():
    for name in registered():
        config = Config(row=name).completed()
        assert config.items()
        assert len(config.seeds) >= 10
        assert len(config.tuning_seeds) >= 3
        assert set(config.arms) <= set(ARMS)
