"""``predict-gradients`` end to end on a tiny problem, and the numbers of its report."""

import dataclasses
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from quick import jit_quickly
from run_files import read_meta, read_records

from experiments.cli import main
from experiments.options import recorded
from experiments.studies.predict_gradients import problems
from experiments.studies.predict_gradients.ask import (
    ARMS,
    DEFAULTS,
    PLAIN,
    PROBLEMS,
    Arm,
    Config,
    Record,
)
from experiments.studies.predict_gradients.costs import Piece, pieces, timed
from experiments.studies.predict_gradients.problems import Problem, load_problem, with_label_noise
from experiments.studies.predict_gradients.program import Program, beside
from experiments.studies.predict_gradients.summary import (
    best_plain,
    by_arm,
    summarize,
    target_accuracy,
)

FILES = {"report.md", "curves.png", "runs.jsonl", "meta.json"}


@pytest.fixture
def configurations(monkeypatch, tmp_path):
    """The configurations that reach the experiment, which itself does not run."""
    monkeypatch.chdir(tmp_path)
    seen = []

    def run(study, config):
        seen.append(config)
        return 0

    monkeypatch.setattr("experiments.study.run", run)
    return seen


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    """A real run on digits, by operations, so that it is short on any machine."""
    folder = tmp_path_factory.mktemp("predict") / "run"
    tiny = Problem(problems._HiddenLayers((8,)), problems._load_digits)
    arguments = (
        "predict-gradients --seeds 2 --gigaflops 0.05 --plain-batch-sizes 8 --batch-size 16 "
        "--arms auto combined "
        "--fit-examples 16 --rank 4 --refit-interval 20 --label-noise 0.1 --learning-rate 0.01"
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(problems._PROBLEMS, "digits", tiny)
        assert main([*arguments.split(), "--output", str(folder)]) == 0
    return folder


def test_every_arm_uses_up_the_same_operations(tiny_run):
    assert {path.name for path in tiny_run.iterdir()} == FILES
    records = [Record(**record) for record in read_records(tiny_run)]
    names = ["plain 8", "auto 16", "combined 16"]
    assert [record.arm for record in records] == names * 2
    assert [record.seed for record in records] == [0] * len(names) + [1] * len(names)
    for record in records:
        assert 0.05e9 <= record.flops[-1] < 0.1e9
        assert all(np.diff(record.flops) > 0), "checkpoints come after more work"
        assert record.rejected == 0
        assert 0 <= record.test_accuracy <= 100
    meta = read_meta(tiny_run)
    assert meta["status"] == "complete"
    assert meta["configuration"] == {
        "problem": "digits",
        "arms": [
            {"kind": kind, "batch_size": size, "learning_rate": 0.01}
            for kind, size in ((PLAIN, 8), ("auto", 16), ("combined", 16))
        ],
        "seeds": [0, 1],
        "clock": "gigaflops",
        "budget": 0.05,
        "label_noise": 0.1,
        "fit_examples": 16,
        "rank": 4,
        "refit_interval": 20,
        "steps_per_call": 25,
        "target": None,
    }


def test_alignment_and_fraction_are_known_where_something_predicts(tiny_run):
    for record in (Record(**record) for record in read_records(tiny_run)):
        predicts = ARMS[record.kind].predicts
        assert (record.rho[-1] is not None) == predicts
        assert (record.cost_ratio_flops is None) == (record.kind == PLAIN)
        fractions = set(record.control_fraction[1:])
        expected = {PLAIN: {1.0}, "auto": {1.0, 0.5, 0.25, 0.125}}.get(record.kind, {0.25})
        assert fractions <= expected


def test_report_has_a_row_for_each_arm(tiny_run):
    text = (tiny_run / "report.md").read_text()
    for name in ("plain 8", "auto 16", "combined 16"):
        assert f"\n| {name} | 0.01 |" in text
    assert "10% of the training labels random" in text
    assert "0.05 gigaflops for each arm" in text


def record(arm, seed, accuracy, seconds, flops):
    kind, size = arm.split()
    count = len(accuracy)
    return Record(
        arm=arm,
        kind=kind,
        batch_size=int(size),
        learning_rate=0.1,
        seed=seed,
        cost_ratio_flops=None if kind == PLAIN else 0.4,
        cost_ratio_seconds=None if kind == PLAIN else 0.5,
        test_accuracy=accuracy[-1],
        rejected=0,
        seconds=seconds,
        flops=flops,
        steps=list(range(count)),
        loss=[1.0] * count,
        accuracy=accuracy,
        control_fraction=[1.0] * count,
        rho=[None] * count,
    )


RECORDS = [
    record("plain 8", 0, [10.0, 50.0, 60.0], [0.0, 1.0, 2.0], [0.0, 10.0, 20.0]),
    record("plain 16", 0, [10.0, 60.0, 80.0], [0.0, 1.0, 2.0], [0.0, 10.0, 20.0]),
    record("auto 16", 0, [10.0, 80.0, 90.0], [0.0, 1.0, 2.0], [0.0, 5.0, 10.0]),
    record("plain 8", 1, [10.0, 50.0, 62.0], [0.0, 1.0, 2.0], [0.0, 10.0, 20.0]),
    record("plain 16", 1, [10.0, 60.0, 82.0], [0.0, 1.0, 2.0], [0.0, 10.0, 20.0]),
    record("auto 16", 1, [10.0, 82.0, 91.0], [0.0, 1.0, 2.0], [0.0, 5.0, 10.0]),
]


def test_arms_are_compared_with_the_best_plain_one_at_equal_time_and_operations():
    assert best_plain(RECORDS) == "plain 16"
    assert list(by_arm(RECORDS)) == ["plain 8", "plain 16", "auto 16"]
    target = target_accuracy(RECORDS, None)
    assert target == pytest.approx(np.mean([60 + 0.6 * 20, 60 + 0.6 * 22]))  # 80 % of the budget
    small, best, auto = summarize(RECORDS, target)
    assert best.is_reference
    assert not auto.is_reference
    assert auto.time_difference.mean == pytest.approx(np.mean([10, 9]))
    # All made 10 operations: there the best plain arm stands at 60, the other at its end.
    assert auto.flops_difference.mean == pytest.approx(np.mean([30, 31]))
    assert auto.flops_to_target.interval.mean == pytest.approx(
        np.mean([5 * (target - 10) / 70, 5 * (target - 10) / 72])
    )
    assert small.seconds_to_target == (None, 0, 2), "never reached, and that is said"


def test_a_given_target_is_taken():
    assert target_accuracy(RECORDS, 12.5) == 12.5


def test_label_noise_is_drawn_anew_and_keeps_inputs():
    import jax

    examples = (jnp.ones((2000, 2)), jnp.zeros(2000, jnp.int32))
    assert with_label_noise(examples, 0.0, jax.random.key(0)) is examples
    (inputs, one), (_, two) = (
        with_label_noise(examples, 0.5, jax.random.key(seed)) for seed in (0, 1)
    )
    assert inputs is examples[0]
    assert jnp.any(one != two)
    # Half are replaced, and one in ten of those by the label that was there.
    assert abs(float(jnp.mean(one != 0)) - 0.45) < 4 * np.sqrt(0.45 * 0.55 / 2000)


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_split_into_trunk_and_head(name):
    import jax

    problem = load_problem(name)
    inputs = jnp.zeros((3, 64) if name.startswith("digits") else (3, 32, 32, 3))

    @jit_quickly
    def measured(key):
        params = problem.init(key, inputs)
        features = problem.loss.features(params.trunk, inputs)
        return params.head, features, problem.measure(params, (inputs, jnp.zeros(3, jnp.int32)))

    head, features, (loss, accuracy) = measured(jax.random.key(0))
    assert features.shape == (3, head["kernel"].shape[0])
    assert jnp.isfinite(loss)
    assert 0 <= accuracy <= 100.001


def test_options_reach_the_experiment(configurations):
    arguments = (
        "predict-gradients --problem cifar10-vit --arms auto auto --plain-batch-sizes 64 "
        "--batch-size 512 --seconds 3 --seeds 2 --first-seed 5 --fit-examples 128 --rank 16 "
        "--refit-interval 7 --target 40 --label-noise 0.25 --data-dir somewhere"
    )
    assert main(arguments.split()) == 0
    (config,) = configurations
    assert [str(arm) for arm in config.arms] == ["plain 64", "auto 512"]
    assert (config.clock, config.budget, config.seeds) == ("seconds", 3.0, (5, 6))
    assert (config.fit_examples, config.rank, config.refit_interval) == (128, 16, 7)
    assert (config.target, config.label_noise, config.data_dir) == (40.0, 0.25, "somewhere")


@pytest.mark.parametrize("name", PROBLEMS)
def test_defaults_measure_every_arm(name, configurations):
    assert main(["predict-gradients", "--problem", name]) == 0
    (config,) = configurations
    assert isinstance(config, Config)
    assert {arm.kind for arm in config.arms} == set(ARMS)
    assert len(config.seeds) >= 3
    assert recorded(config)["budget"] == DEFAULTS[name].seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--problem mnist", "unknown problem 'mnist'; valid: digits, digits-dense, cifar10-vit"),
        ("--arms best", f"unknown arm 'best'; valid: {', '.join(ARMS)}"),
        ("--batch-size 100", "--batch-size: 100 is not a multiple of 8"),
        ("--rank 65 --fit-examples 64", "--rank: 65 directions cannot be learnt from 64 examples"),
        ("--label-noise 1.5", "--label-noise: '1.5' is not a number from 0 to 1"),
        ("--seconds 1 --gigaflops 1", "--gigaflops: not allowed with argument --seconds"),
        ("--seconds 0", "--seconds: '0' is not a number above 0"),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(arguments, message, configurations, capsys):
    assert main(["predict-gradients", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not configurations
    assert not list(Path().iterdir()), "nothing is created for a request that fails"


def test_missing_data_is_said_before_anything_is_recorded(tmp_path, capsys):
    pytest.importorskip("tensorflow_datasets")
    folder = tmp_path / "run"
    arguments = ["predict-gradients", "--problem", "cifar10-vit", "--data-dir", str(tmp_path)]
    assert main([*arguments, "--output", str(folder)]) == 2
    assert "--data-dir" in capsys.readouterr().err
    assert not folder.exists()


def test_list_names_problems_and_arms(capsys):
    assert main(["list"]) == 0
    words = capsys.readouterr().out.split()
    for name in [*PROBLEMS, *ARMS]:
        assert name in words


class Sleeper:
    """A program whose steps and fits take a known time."""

    def __init__(self, kind, step, fit=0.0):
        self.arm = Arm(kind, 16, 0.1)
        self.steps_per_call, self.gradient = 5, SimpleNamespace(refit_interval=20)
        self._step, self._fit = step, fit

    def start(self, seed, train):
        return None, None, SleeperState(age=20), None

    def call(self, carry, train):
        fits = [int(carry[2].age) >= 20, *[False] * 4]
        time.sleep(5 * self._step + sum(fits) * self._fit)
        return carry, (None, fits)


class SleeperState(NamedTuple):
    age: int


def test_the_cost_of_a_prediction_by_the_clock_has_its_share_of_the_fits():
    plain, predicted = Sleeper(PLAIN, 0.010), Sleeper("predicted", 0.006, fit=0.040)
    # A step and a twentieth of a fit take 0.8 of the plain step's time: 1/4 + 3/4 c.
    expected = (0.8 - 0.25) / 0.75
    assert timed(predicted, plain, None) == pytest.approx(expected, abs=0.2)


def test_what_is_timed_beside_the_arms_is_compiled_too():
    config = Config(arms=(Arm(PLAIN, 8, 0.1), Arm("auto", 16, 0.1)), rank=1, fit_examples=2)
    config = dataclasses.replace(config, refit_interval=20, steps_per_call=5)
    programs = [Program(load_problem("digits"), arm, config) for arm in config.arms]
    assert [str(program.arm) for program in beside(programs)] == ["plain 16", "predicted 16"]


def test_arms_that_do_the_same_share_what_is_counted():
    arms = (Arm(PLAIN, 8, 0.1), *(Arm(kind, 16, 0.1) for kind in ARMS if kind != PLAIN))
    config = Config(arms=arms, rank=1, fit_examples=2, refit_interval=20)
    programs = [Program(load_problem("digits"), arm, config) for arm in arms]
    fit = programs[1].fit_size
    assert {piece for program in programs for piece in pieces(program)} == {
        Piece(1.0, 8),
        Piece(1.0, 16),  # beside every other arm
        Piece(None, fit, True),  # of "predicted" and of "auto"
        *(Piece(f, 16, True) for f in (0.5, 0.25, 0.125)),
        Piece(0.25, 16, False, "output_gradient"),
        Piece(None, fit, True, "output_gradient"),
        Piece(0.25, 16, True, "output_gradient"),
    }
