"""The command ``pipeline``: its simulator against version queues, its verdicts, its page."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from run_files import read_meta, read_records, read_table

import xgrad_optax
from experiments.cli import main
from experiments.page import page_text
from experiments.studies.pipeline import arms, counts, page, simulate
from experiments.studies.pipeline.arms import ARMS
from experiments.studies.pipeline.ask import BEST, COMPARISONS, Config, Record, registered
from experiments.studies.pipeline.networks import NETWORKS
from experiments.studies.pipeline.optimizers import Estimating
from experiments.studies.pipeline.simulate import Run, Simulator
from experiments.studies.pipeline.verdicts import best_horizon, best_is_inside, verdicts
from experiments.tasks import load_task
from experiments.training import late, pipeline
from tests.reference import pipeline as reference

pytestmark = pytest.mark.usefixtures("quickly_compiled")

STAGES, TICKS, RATE = 2, 12, 0.02
RESULTS = Path(__file__).parents[3] / "experiments" / "results" / "pipeline"


@pytest.fixture(autouse=True)
def few_random_examples(monkeypatch):
    def without_data(name, preset):
        task = load_task(name, preset)
        return dataclasses.replace(task, load=lambda data_dir: task.fake())

    monkeypatch.setattr(simulate, "load_task", without_data)


class Trained:
    """A simulator, and what its runs begin with."""

    def __init__(self, optimizer, network="digits"):
        config = Config(
            network=network,
            optimizer=optimizer,
            stages=STAGES,
            ticks=TICKS,
            seeds=(0,),
            tuning_seeds=(1,),
            points=3,
            batch_size=4,
        )
        self.simulator = Simulator(config.completed())
        self.network = NETWORKS[network].staged.named()
        params, order = jax.tree.map(lambda leaf: leaf[1], self.simulator._draws)  # of seed 0
        data = load_task(NETWORKS[network].task, "cpu").fake().train
        self.params, self.train = params, jax.tree.map(jnp.asarray, data)
        self.batches = [jax.tree.map(lambda leaf, i=i: leaf[i], self.train) for i in order]

    def assert_ends_at(self, measured, params):
        expected, _ = self.network.whole(params, self.train)
        np.testing.assert_allclose(measured.train_loss[0], expected, rtol=2e-5)
        np.testing.assert_allclose(measured.curve[0, -1], expected, rtol=2e-5)


def zero_gradient(inner):
    def build(s, delay):
        del delay
        return xgrad_optax.with_weight_prediction(inner, s, predictor=xgrad_optax.zero_gradient())

    return build


def pipemare(s, delay):
    del s
    rate = late.pipemare_schedule(RATE, delay, TICKS // 4)
    tx = late.following_drift(optax.sgd(rate, 0.9), delay)

    def past_params(params, state):
        return jax.tree.map(lambda p, d: p - delay * d, params, state.drift)

    return Estimating(*tx, past_params)


def dc_asgd(s, delay):
    del s
    inner = optax.adamw(RATE)
    return optax.chain(late.compensated(delay, 0.04, 0.0), inner) if delay else inner


@pytest.mark.parametrize(
    ("network", "optimizer", "arm", "build"),
    [
        ("digits", "sgdm", "zero-gradient", zero_gradient(optax.sgd(RATE, 0.9))),
        ("digits", "adamw", "zero-gradient", zero_gradient(optax.adamw(RATE))),
        ("digits", "sgdm", "pipemare-corrected", pipemare),
        ("digits", "adamw", "dc-asgd", dc_asgd),
        ("photographs", "sgdm", "none", lambda s, delay: optax.sgd(RATE, 0.9)),
        ("characters", "adamw", "uniform-predicted", lambda s, _: xgrad_optax.adamw(RATE, s=s)),
    ],
)
def test_a_simulated_run_is_that_of_version_queues(network, optimizer, arm, build):
    trained = Trained(optimizer, network)
    setting, staged = ARMS[arm].settings(STAGES)[0], trained.network
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], trained.params) for i in range(STAGES)]
    optimizers = [build(s, counts.delay(STAGES, stage)) for stage, s in enumerate(setting.horizons)]
    cut = pipeline.Cut(staged.enter, staged.block, staged.loss)
    updates, _ = reference.simulate(cut, optimizers, setting.backward, trained.batches, each, TICKS)
    ended = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(u[-1].params for u in updates))
    found = trained.simulator.train([Run(1, 1.0, setting), Run(0, RATE, setting)])
    trained.assert_ends_at(type(found)(*(leaf[1:] for leaf in found)), ended)
    assert trained.simulator.points(setting) == [4, 8, 12]


def test_gpipe_is_the_plain_loop_on_all_its_micro_batches():
    trained = Trained("sgdm")
    setting = ARMS["gpipe"].settings(STAGES)[1]
    assert (setting.micro_batches, setting.steps(STAGES, TICKS)) == (2, 4)
    params, batches, whole = trained.params, trained.batches, trained.network.whole
    tx = optax.sgd(RATE, 0.9)
    opt_state = tx.init(params)
    for k in range(4):
        batch = jax.tree.map(lambda *parts: jnp.concatenate(parts), *batches[2 * k : 2 * k + 2])
        grads = jax.grad(lambda params, batch: whole(params, batch)[0])(params, batch)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    trained.assert_ends_at(trained.simulator.train([Run(0, RATE, setting)]), params)
    assert trained.simulator.points(setting) == [3, 6, 9, 12]


def test_losses_on_the_way_change_no_run():
    simulator, (setting,) = Trained("sgdm").simulator, ARMS["uniform"].settings(STAGES)
    runs = [Run(0, RATE, setting), Run(1, 1e30, setting)]
    watched, alone = (simulator.train(runs, watched=each) for each in (True, False))
    np.testing.assert_array_equal(alone.train_loss, watched.train_loss)
    assert (watched.curve.shape, alone.curve.shape) == ((2, 3), (2, 0))
    assert not np.isfinite(watched.curve[1, -1])


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
    assert horizons["uniform-half"] == (3, 3, 3, 3)
    assert horizons["reversed"] == (0, 2, 4, 6)


def test_weights_of_backward_passes_have_the_names_of_the_step():
    named = {arms.STASH, arms.PREDICTED, arms.CURRENT, arms.ESTIMATED}
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
    found = {(each.arm, each.reference): each for each in verdicts(records)}
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
        assert name.startswith(f"{config.network}-{config.optimizer}-{config.stages}")
        assert set(config.arms) <= set(ARMS)
        assert (config.ticks, len(config.seeds) >= 5, len(config.tuning_seeds)) == (400, True, 3)


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
