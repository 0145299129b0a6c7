"""The command ``batch-size``: its training, its tuning, useful batches, its results."""

import dataclasses
import math

import jax
import numpy as np
import optax
import pytest
from run_files import read_meta, read_records, read_table

import xgrad_optax
from experiments.cli import main
from experiments.page import page_text
from experiments.progress import Progress
from experiments.statistics import holm, paired_p_value
from experiments.studies.batch_size import figure, page, work
from experiments.studies.batch_size.ask import (
    ARMS,
    COMPARISONS,
    WORSE,
    Config,
    Item,
    Record,
    registered,
)
from experiments.studies.batch_size.useful import (
    best_is_inside,
    largest_useful,
    losses,
    reported,
    target,
    useful_batches,
    verdicts,
)
from experiments.tasks import load_task
from experiments.training.scan import draw
from experiments.tuning import REPORTED, TUNING

SIZES, EPOCHS = (4, 8, 16), 2


@pytest.fixture(scope="module")
def folder(known_regression, tmp_path_factory):
    folder = tmp_path_factory.mktemp("batch-size") / "run"
    options = "--task regression --batch-sizes 16 4 8 --epochs 2 --seeds 3"
    assert main(["batch-size", *options.split(), "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def records(folder):
    return [Record(**record) for record in read_records(folder)]


@pytest.fixture(scope="module")
def config(known_regression):
    seeds = (0, 1, 2)
    return Config(task="regression", batch_sizes=SIZES, epochs=EPOCHS, seeds=seeds).completed()


def test_every_arm_is_tuned_and_trained_at_every_size(folder, records):
    assert {path.name for path in folder.iterdir()} == {
        "report.md",
        "loss.png",
        "runs.jsonl",
        "meta.json",
    }
    assert list(reported(records)) == [(size, arm) for size in SIZES for arm in ARMS]
    examples = len(load_task("regression").load(None).train["target"])
    for (size, arm), run in reported(records).items():
        assert run.steps == EPOCHS * (examples // size)
        assert run.seeds == [0, 1, 2]
        assert all(math.isfinite(loss) for loss in run.test_loss if loss is not None)
        tried = [r for r in records if (r.batch_size, r.arm) == (size, arm)]
        assert {tuple(r.seeds) for r in tried if r.purpose == TUNING} == {(1000, 1001, 1002)}
        assert run.learning_rate in [r.learning_rate for r in tried if r.purpose == TUNING]
        assert best_is_inside(run, records)


def test_a_run_is_the_loop_written_out(known_regression, config):
    task, item, rate = load_task("regression"), Item(8, "s=2"), 0.03
    data = task.load(None)
    trainer = work.Trainer(config, task, data)
    _, _, test = trainer.program(item)(1, rate)
    drawn = jax.tree.map(lambda leaf: leaf[4], draw(task, data, (1000, 1001, 1002, 0, 1), 2, 8))
    params = drawn.variables.params
    lookahead_params, tx = xgrad_optax.sgdm(rate, s=2, momentum=0.9)
    state = tx.init(params)
    for indices in drawn.batches.reshape(-1, 8):
        batch = {name: values[indices] for name, values in data.train.items()}
        grads = jax.grad(lambda p, b: np.mean(1) * ((b["input"] @ p - b["target"]) ** 2).mean())(
            lookahead_params(params, state), batch
        )
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    errors = (data.test["input"] @ params - data.test["target"]) ** 2
    np.testing.assert_allclose(test["loss"], errors.mean(), rtol=1e-5)


def test_a_record_keeps_every_part_apart(known_regression, config):
    task, item = load_task("regression"), Item(8, "plain")
    trainer = work.Trainer(config, task, task.load(None))
    run = work.Arm(config, item, trainer)._trained(0, REPORTED)
    found = [part["loss"] for part in trainer.program(item)(0, run.learning_rate)]
    kept = [run.train_loss[0], run.validation_loss[0], run.test_loss[0]]
    np.testing.assert_allclose(kept, found, rtol=1e-5)
    assert len(set(kept)) == 3


def test_grids_begin_with_the_root_of_the_batch_size(known_regression, config, monkeypatch):
    tried = []

    def trained(self, rate, purpose):
        tried.append((purpose, rate))
        return record(size=512, validation=[abs(rate - 4.2)] * 3, purpose=purpose)

    monkeypatch.setattr(work.Arm, "_trained", trained)
    task = load_task("regression")
    trainer = work.Trainer(config, task, task.load(None))
    monkeypatch.setattr(work.Trainer, "program", lambda self, item: None)
    work.Arm(config, Item(512, "plain"), trainer).records(Progress("arms", str))
    # The task's own batch is 8: the root of 64 is three factors of 2; the grid goes on to the best.
    assert tried == [(TUNING, rate) for rate in (1, 2, 3, 4, 5)] + [(REPORTED, 4)]


def record(size=4, arm="plain", ended=(1.0, 1.0, 1.0), validation=None, purpose=REPORTED):
    ended = list(ended)
    return Record(
        batch_size=size,
        arm=arm,
        purpose=purpose,
        learning_rate=0.1,
        steps=8,
        seeds=[0, 1, 2],
        train_loss=ended,
        validation_loss=ended if validation is None else validation,
        test_loss=ended,
        test_metric=ended,
    )


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([1.0, 1.0, 1.0], 16),  # what is beyond was not measured
        ([3.0, 3.0, 3.0], 4),
        ([1.0, 4.0, 4.0], 4 * 2**0.5),  # 2 is halfway from 1 to 4
        ([1.0, 2.0, 8.0], 8),
        ([3.0, 1.0, 4.0], 8 * 2**0.5),  # chance at the smallest size does not count
        ([1.0, math.inf, math.inf], 4),
        ([0.0, 4.0, 4.0], 4),
    ],
)
def test_the_largest_useful_batch_lies_between_two_sizes(losses, expected):
    assert largest_useful((4, 8, 16), losses, 2.0) == pytest.approx(expected)


def test_useful_batches_are_compared_by_seed(config):
    at = {
        "plain": [(1.0, 1.01, 0.99), (1.3, 1.31, 1.3), (2.0, 2.2, 2.1)],
        "nesterov": [(1.0, 1.0, 1.0), (1.25, 1.3, 1.15), (2.0, 2.0, 2.0)],
        "s=1": [(0.9, 0.95, 0.9), (0.95, 1.0, 0.97), (1.2, 1.21, 1.22)],
        "s=2": [(2.0, 2.0, 2.0), (2.0, None, 2.0), (None, None, None)],
    }
    runs = [
        record(size, arm, losses)
        for arm, rows in at.items()
        for size, losses in zip(SIZES, rows, strict=True)
    ]
    assert target(runs, config) == pytest.approx(WORSE * 1.0)
    found = useful_batches(runs, config)
    assert list(found) == ["plain", "nesterov", "s=1", "s=2"], "s=3 has not been run"
    assert found["s=2"] == [4.0, 4.0, 4.0]
    assert min(found["s=1"]) > 8 > max(found["plain"])
    said = verdicts(runs, config)
    pairs = [pair for pair in COMPARISONS if "s=3" not in pair]
    assert [(v.arm, v.reference) for v in said] == pairs
    doubled = {arm: np.log2(sizes) for arm, sizes in found.items()}
    expected = holm([paired_p_value(doubled[arm], doubled[other]) for arm, other in pairs])
    np.testing.assert_allclose([v.p_value for v in said], expected)
    text = {(v.arm, v.reference): v.text for v in said}
    assert text["s=1", "plain"] == "better"
    means = doubled["s=1"].mean() - doubled["plain"].mean()
    assert said[1].difference.mean == pytest.approx(means)


def test_without_the_plain_optimizer_nothing_is_useful_or_tested(folder, config):
    runs = [record(size, "s=1") for size in SIZES]
    lost = [record(size, "plain", [None, 1.0, 1.0]) for size in SIZES]
    for each in (runs, lost):
        assert target(each, config) is None
        assert verdicts(each, config) == []
    said = page_text(page, runs, dataclasses.replace(config, arms=("s=1",)), read_meta(folder))
    assert "## Largest useful batch" not in said
    assert "| batch | steps | s=1 |" in said
    assert "Mean losses; ±" in said


def test_a_ratio_needs_a_plain_run_that_ended(folder, config):
    """What stands in a column of ratios is one, or says why there is none."""
    runs = [record(4, "plain", [None, 1.0, 1.0]), *(record(size, "s=1") for size in SIZES)]
    said = page_text(
        page, runs, dataclasses.replace(config, arms=("plain", "s=1")), read_meta(folder)
    )
    assert "| 4 | 8 | 1 diverged | plain diverged |" in said
    assert "| 8 | 8 |  |  |" in said


def test_one_seed_is_not_tested(folder, config):
    runs = [
        dataclasses.replace(record(size, arm, [loss]), seeds=[0])
        for arm, loss in (("plain", 1.0), ("s=1", 0.9))
        for size in SIZES
    ]
    alone = dataclasses.replace(config, arms=("plain", "s=1"), seeds=(0,))
    assert useful_batches(runs, alone)
    assert verdicts(runs, alone) == []
    assert "Paired t tests" not in page_text(page, runs, alone, read_meta(folder))


def test_the_smallest_plot_shows_its_point(config, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(figure, "save", lambda drawn, path: figures.append(drawn))
    figure.draw_losses(tmp_path, [record(4)], dataclasses.replace(config, batch_sizes=(4,)))
    above, _ = figures[0].axes
    assert above.lines[0].get_marker() == "."


def test_batches_that_go_on_as_a_text_have_one_size(known_regression, capsys, monkeypatch):
    task = load_task("regression")
    load = lambda folder: task.load(folder)._replace(ordered=True)  # noqa: E731
    monkeypatch.setattr(work, "load_task", lambda name: dataclasses.replace(task, load=load))
    assert main(["batch-size", "--task", "regression", "--batch-sizes", "4"]) == 2
    assert "it reads on in as many rows as its batches have, 8" in capsys.readouterr().err


def test_the_report_shows_losses_rates_and_tests(folder, records, config):
    rows = read_table(folder, f"Test loss after {EPOCHS} epochs")
    assert [row[0] for row in rows] == ["4", "8", "16"]
    runs = reported(records)
    for row, size in zip(rows, SIZES, strict=True):
        plain, ahead = (losses(runs[size, arm]) for arm in ("plain", "s=1"))
        assert float(row[2].split()[0].strip("(")) == pytest.approx(np.mean(plain), rel=0.5)
        ratio = math.exp(np.mean(np.log(ahead) - np.log(plain)))
        assert float(row[4].split()[0].strip("(")) == pytest.approx(ratio, rel=0.3)
    useful = read_table(folder, "Largest useful batch")
    assert [row[0] for row in useful[: len(ARMS)]] == list(ARMS)
    text = (folder / "report.md").read_text()
    assert "registered.toml" not in text, "it was no registered row"
    assert "at the edge" not in text
    alone = [r for r in records if r.purpose == REPORTED]
    assert "at the edge of its grid for plain at 4" in page_text(
        page, alone, config, read_meta(folder)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--row nothing", "unknown row 'nothing'; valid: mnist-sgdm"),
        ("--arms s=9", "unknown arm 's=9'; valid: plain, nesterov, s=1"),
        ("--batch-sizes 4 5000", "a batch of 5000 cannot be made of 1077 training examples"),
        ("--tuning-seeds 3 1000", "seeds [3] are for tuning and for reporting"),
    ],
)
def test_bad_usage_is_one_line(options, message, capsys):
    assert main(["batch-size", *options.split()]) == 2
    assert message in capsys.readouterr().err


def test_registered_rows_can_be_run():
    for name in registered():
        config = Config(row=name).completed()
        assert len(config.seeds) >= 10
        assert len(config.tuning_seeds) >= 3
        assert len(config.items()) == len(ARMS) * len(config.batch_sizes)
