"""The command ``pipeline``: its simulator against version queues, its verdicts, its page."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from run_files import read_meta, read_records, read_table

import xgrad_optax
from experiments.cli import main
from experiments.data.digits import load_digits
from experiments.page import page_text
from experiments.studies.pipeline import arms, page
from experiments.studies.pipeline.arms import ARMS
from experiments.studies.pipeline.ask import BEST, COMPARISONS, Config, Record, registered
from experiments.studies.pipeline.model import CUT, whole
from experiments.studies.pipeline.simulate import Run, Simulator
from experiments.studies.pipeline.verdicts import best_horizon, best_is_inside, verdicts
from experiments.training import pipeline
from tests.reference.pipeline import simulate

pytestmark = pytest.mark.usefixtures("quickly_compiled")

STAGES, TICKS, RATE = 2, 12, 0.02
RESULTS = Path(__file__).parents[3] / "experiments" / "results" / "pipeline"


def make_simulator(optimizer):
    config = Config(
        optimizer=optimizer, stages=STAGES, ticks=TICKS, seeds=(0,), tuning_seeds=(1,), points=3
    )
    return Simulator(config)


def drawn(simulator, seed):
    """Weights of all stages, and the micro-batches."""
    params, order = jax.tree.map(lambda leaf: leaf[simulator.seeds.index(seed)], simulator._draws)
    train = jax.tree.map(jnp.asarray, load_digits().train)
    batches = [jax.tree.map(lambda leaf, i=i: leaf[i], train) for i in order]
    return params, batches, train


def assert_ends_at(measured, params, train):
    expected, _ = whole(params, train)
    np.testing.assert_allclose(measured.train_loss[0], expected, rtol=1e-5)
    np.testing.assert_allclose(measured.curve[0, -1], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "arm", "inner"),
    [
        ("sgdm", "zero-gradient", optax.sgd(RATE, 0.9)),
        ("adamw", "zero-gradient", optax.adamw(RATE)),
        ("adamw", "uniform-predicted", None),
    ],
)
def test_a_simulated_run_is_that_of_version_queues(optimizer, arm, inner):
    simulator = make_simulator(optimizer)
    (setting,) = ARMS[arm].settings(STAGES)
    params, batches, train = drawn(simulator, 0)
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], params) for i in range(STAGES)]
    rolled = xgrad_optax.zero_gradient()
    optimizers = [
        xgrad_optax.with_weight_prediction(inner, s, predictor=rolled)
        if inner
        else xgrad_optax.adamw(RATE, s=s)
        for s in setting.horizons
    ]
    updates, _ = simulate(CUT, optimizers, setting.backward, batches, each, TICKS)
    ended = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(u[-1].params for u in updates))
    found = simulator.train([Run(1, 1.0, setting), Run(0, RATE, setting)])
    assert_ends_at(type(found)(*(leaf[1:] for leaf in found)), ended, train)
    assert simulator.points(setting) == [4, 8, 12]


def test_gpipe_is_the_plain_loop_on_all_its_micro_batches():
    simulator = make_simulator("sgdm")
    setting = ARMS["gpipe"].settings(STAGES)[1]
    assert (setting.micro_batches, setting.steps(STAGES, TICKS)) == (2, 4)
    params, batches, train = drawn(simulator, 0)
    tx = optax.sgd(RATE, 0.9)
    opt_state = tx.init(params)
    for k in range(4):
        batch = jax.tree.map(lambda *parts: jnp.concatenate(parts), *batches[2 * k : 2 * k + 2])
        grads = jax.grad(lambda params, batch: whole(params, batch)[0])(params, batch)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    assert_ends_at(simulator.train([Run(0, RATE, setting)]), params, train)
    assert simulator.points(setting) == [3, 6, 9, 12]


def test_gpipe_gets_as_many_ticks_or_as_many_examples():
    ticks, examples = (ARMS[arm].settings(4) for arm in ("gpipe", "gpipe-examples"))
    assert [setting.micro_batches for setting in ticks] == [1, 4, 16]
    assert [setting.steps(4, 400) for setting in ticks] == [100, 57, 21]
    assert [setting.steps(4, 400) for setting in examples] == [400, 100, 25]


def test_horizons_by_stage_and_uniform():
    horizons = {name: arm.settings(4)[0].horizons for name, arm in ARMS.items()}
    assert horizons["none"] == (0, 0, 0, 0)
    assert horizons["s=tau"] == (6, 4, 2, 0)
    assert horizons["s=tau+1"] == horizons["zero-gradient"] == (7, 5, 3, 1)
    assert horizons["uniform"] == (6, 6, 6, 6)
    assert horizons["uniform-zero-gradient"] == (7, 7, 7, 7)


def test_weights_of_backward_passes_have_the_names_of_the_step():
    named = {arms.STASH, arms.PREDICTED, arms.CURRENT}
    assert named == set(pipeline.BACKWARD)


def record(arm, losses, purpose="reported", rate=0.1):
    empty = {name: [9.0] * len(losses) for name in ("train_loss", "validation_loss", "accuracy")}
    return Record(
        arm=arm,
        purpose=purpose,
        setting={"equal": "ticks"},
        learning_rate=rate,
        seeds=list(range(len(losses))),
        train_loss=losses,
        validation_loss=losses,
        accuracy=losses,
        start=empty,
        at=[],
        curve=[],
    )


def test_registered_pairs_are_tested_together():
    records = [
        record("uniform", [1.0, 1.1, 0.9, 1.0], "tuning"),
        record("s=tau", [2.0, 2.1, 1.9, 2.0], "tuning"),
        record("uniform", [1.0, 1.1, 0.9, 1.0]),
        record("s=tau", [2.0, 2.2, 1.9, 2.0]),
        record("none", [None, 2.3, 1.7, 12.0]),
    ]
    assert best_horizon(records) == "uniform"
    found = {(each.chosen, each.reference): each for each in verdicts(records)}
    assert list(found) == [("uniform", "s=tau"), ("s=tau", "none"), ("uniform", "none")]
    assert found["uniform", "s=tau"].text == "better"
    assert found["s=tau", "none"].text == "no difference shown"
    # A run that is lost counts with what it began with.
    lost = np.mean([9.0, 2.3, 1.7, 9.0])
    np.testing.assert_allclose(found["s=tau", "none"].difference.mean, 2.025 - lost)
    assert {BEST, *ARMS} >= {name for pair in COMPARISONS for name in pair}


def test_a_best_rate_is_inside_only_between_others():
    tried = [
        record("none", [loss], "tuning", rate) for rate, loss in ((1, 3.0), (2, 1.0), (4, 2.0))
    ]
    assert best_is_inside(record("none", [1.0]), tried)
    assert not best_is_inside(record("none", [1.0]), tried[:2])
    assert not best_is_inside(record("s=tau", [1.0]), tried)


def test_registered_rows_are_configurations():
    for name in registered():
        config = Config(row=name).completed()
        assert name == f"digits-{config.optimizer}-{config.stages}"
        assert (config.arms, config.ticks, len(config.seeds)) == (tuple(ARMS), 400, 10)


def test_what_cannot_be_asked_for_is_refused(capsys):
    assert main(["pipeline", "--row", "mnist"]) == 2
    assert "digits-sgdm-4" in capsys.readouterr().err
    assert main(["pipeline", "--ticks", "10"]) == 2
    assert "give at least 20" in capsys.readouterr().err
    assert main(["pipeline", "--tuning-seeds", "3"]) == 2
    assert "seeds [3] are for tuning and for reporting" in capsys.readouterr().err


@pytest.fixture(scope="module")
def folder(tmp_path_factory, quickly_compiled):
    del quickly_compiled
    folder = tmp_path_factory.mktemp("pipeline") / "run"
    options = "--stages 2 --ticks 10 --arms none uniform --seeds 2 --tuning-seeds 7"
    assert main([*f"pipeline {options}".split(), "--output", str(folder)]) == 0
    return folder


def test_a_run_leaves_what_it_tried_and_a_page(folder):
    records = read_records(folder)
    tuning = [r for r in records if r["purpose"] == "tuning"]
    assert len(tuning) >= 2 * 5
    assert {tuple(r["seeds"]) for r in tuning} == {(7,)}
    shown = [r for r in records if r["purpose"] == "reported"]
    assert [r["arm"] for r in shown] == ["none", "uniform"]
    assert [np.shape(r["curve"]) for r in shown] == [(2, 10)] * 2
    rows = read_table(folder, "Every arm after 10 ticks")
    assert [row[0] for row in rows] == ["none", "uniform"]
    assert [row[:2] for row in read_table(folder, "What is tested")] == [["uniform", "none"]]
    for name in ("pipeline.png", "stable.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert read_meta(folder)["configuration"]["stages"] == 2


def test_the_page_counts_both_schedules(folder):
    rows = read_table(folder, "What the schedules cost")
    assert [row[0] for row in rows] == ["2", "4", "8", "16", "32", "64"]
    # P = 4: 4 of 7 ticks, 4 inputs of 32 x 64 floats; else 7 inputs, and 7 blocks of 8256.
    assert rows[1][1] == "57%, 32.8 kB"
    assert rows[1][4:] == ["288.5 kB", "57.3 kB"]


@pytest.mark.parametrize("folder", sorted(RESULTS.iterdir()), ids=lambda folder: folder.name)
def test_a_committed_page_says_what_its_records_say(folder):
    config = Config(row=folder.name).completed()
    records = [Record(**record) for record in read_records(folder)]
    meta = read_meta(folder)
    assert meta["status"] == "complete"
    assert (folder / "report.md").read_text("utf-8") == page_text(page, records, config, meta)
