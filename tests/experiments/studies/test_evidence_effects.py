"""What results say: effects, profiles and areas, on runs that are made up."""

import dataclasses

import numpy as np
import pytest
from made_up_runs import GAINS, PROTOCOL, ROW, made_up, noisy, pretend, row_of, run_sweep
from scipy import stats

from experiments.studies.evidence.effects import (
    QUESTIONS,
    answers,
    area_effects,
    area_over_rates,
    effect,
    effects_in,
    performance_profile,
)
from experiments.studies.evidence.planned import reported_specs
from experiments.studies.evidence.summaries import summarize_row
from experiments.studies.evidence.tables import study_table
from experiments.training.result import (
    DIVERGED,
    read_results,
)


@pytest.fixture
def summary(tmp_path):
    file = tmp_path / "made-up.jsonl"
    run_sweep(ROW, pretend, file)
    results, _ = read_results([file])
    return summarize_row(ROW, PROTOCOL, {result.spec.key: result for result in results})


def test_the_test_metric_is_read_at_the_best_epoch_on_validation(summary):
    assert summary.arm("plain").values == {0: 79.0, 1: 80.0, 2: 81.0}
    assert summary.target == 81.0
    assert summary.arm("s=1").gradients_to_target == {0: 20, 1: 20, 2: 20}
    assert summary.arm("plain").gradients_to_target == {1: 20, 2: 20}


def test_effects_are_paired_and_in_percent():
    found = {one.arm: one for one in effects_in(row_of(GAINS, seeds=(0, 1, 2, 3, 4)))}
    plain = np.array([79, 79.1, 79.2, 79, 79.1])
    gain = np.array([1.0, 1.1, 1.0, 1.1, 1.0])
    expected = stats.ttest_rel(plain + gain, plain)
    one = found["s=1"]
    np.testing.assert_allclose(one.improvement.mean, 100 * gain.mean() / plain.mean())
    low = 100 * expected.confidence_interval().low / plain.mean()
    np.testing.assert_allclose(one.improvement.mean - one.improvement.half_width, low)
    np.testing.assert_allclose(one.p_value, 3 * expected.pvalue, rtol=1e-6)  # the least of three
    assert [found[arm].verdict for arm in found] == ["better", "better", "undecided"]
    assert found["s=2"].p_value == 1


def test_a_lower_metric_is_an_improvement_where_lower_is_better():
    summary = dataclasses.replace(row_of(GAINS), higher_is_better=False)
    assert {one.arm: one.verdict for one in effects_in(summary)}["s=1"] == "worse"


def test_every_question_has_a_table_that_its_p_values_are_adjusted_for():
    rows = [
        row_of({**GAINS, "s=1": gain}, name=f"row {gain}", seeds=range(5)) for gain in (1.0, -2.0)
    ]
    tables = {(q.what, q.reference): answers(rows, q) for q in QUESTIONS}
    assert {key: len(table) for key, table in tables.items()} == {
        ("Prediction", "plain"): 4,
        ("Prediction", "nesterov"): 4,
        ("Nesterov/NAdam", "plain"): 2,
    }
    plain = tables["Prediction", "plain"]
    assert [one.verdict for one in plain] == ["better", "undecided", "worse", "undecided"]
    alone = [effect(rows[0], rows[0].arm("s=1"), rows[0].arm("plain")).p_value]
    assert max(alone) < plain[0].p_value <= 4 * max(alone) * (1 + 1e-9)


def test_a_seed_that_diverged_counts_as_the_worst_run_of_its_row():
    """It neither drops out nor makes its arm better than it is."""
    row = dataclasses.replace(ROW, arms=("plain", "s=1"), learning_rates=(0.1,), seeds=range(5))
    specs = [spec for arm in row.arms for spec in reported_specs(row, (0.1,), arm)]
    runs = {spec.key: noisy(spec, GAINS) for spec in specs}
    whole = summarize_row(row, PROTOCOL, runs)
    lost = next(spec for spec in specs if (spec.arm, spec.seed) == ("s=1", 2))
    worst = 80 - 10 - 1  # the plain arm at seed 0 after its first epoch; tests are 1 below
    for curve in ([None], [95.0, None]):
        found = summarize_row(row, PROTOCOL, {**runs, lost.key: made_up(lost, curve, DIVERGED)})
        assert found.arm("s=1").values == {**whole.arm("s=1").values, 2: worst}
        assert (found.arm("s=1").lost, found.arm("plain").lost) == (1, 0)
        (one,) = effects_in(found)
        assert one.improvement.mean < 0
        assert one.verdict == "undecided"


def test_seeds_without_the_target_count_with_all_of_their_gradients(summary):
    assert summary.arm("plain").gradients_spent == {0: 30, 1: 20, 2: 20}
    text = study_table(summary).markdown()
    assert "| ≥ 23.3 (2 of 3) |" in text
    assert "| 20 |" in text


def test_profiles_count_what_is_solved_within_a_factor(summary):
    shares = performance_profile([summary], ["plain", "s=1"], np.array([1.0, 2.0]))
    np.testing.assert_allclose(shares["s=1"], 1.0)
    np.testing.assert_allclose(shares["plain"], 2 / 3)


def test_the_area_over_rates_is_the_mean_in_the_logarithm():
    row = dataclasses.replace(ROW, arms=("plain",), learning_rates=(0.01, 0.1, 1.0), seeds=(0, 1))
    results = {
        spec.key: made_up(spec, [1 + 100 * spec.learning_rate])
        for spec in reported_specs(row, row.learning_rates, "plain")
    }
    arms = summarize_row(row, PROTOCOL, results).arms
    assert area_over_rates(arms) == {
        0: pytest.approx((1 / 2 + 10 + 100 / 2) / 2),
        1: pytest.approx(30.25),
    }
    assert area_over_rates(arms[:1]) == {}


def test_a_seed_that_diverges_at_a_rate_has_an_area_all_the_same():
    row = dataclasses.replace(
        ROW, arms=("plain", "s=1"), learning_rates=(0.05, 0.1, 0.2), seeds=range(5)
    )
    specs = [spec for arm in row.arms for spec in reported_specs(row, row.learning_rates, arm)]

    def run(spec):
        if (spec.arm, spec.learning_rate) == ("s=1", 0.2) and spec.seed < 3:
            return made_up(spec, [None], DIVERGED)
        return noisy(spec, {})

    summary = summarize_row(row, PROTOCOL, {spec.key: run(spec) for spec in specs})
    (one,) = area_effects(summary)
    lost = 80 + 0.1 * np.array([0, 1, 2]) - 1 - 69  # of a quarter of the grid
    whole = np.mean([79, 79.1, 79.2, 79, 79.1])
    np.testing.assert_allclose(one.improvement.mean, -100 * lost.sum() / 4 / 5 / whole)
