"""The asynchronous pipeline, one stage a device, against what it is defined to be."""

import functools
import importlib.util

import isolated
import jax
import numpy as np
import pipeline_programs as programs
import pipeline_worker as worker
import pytest
from small_pipeline import CUT, adamw_uniform, batch_of, make_batches, make_params, rolled_out

from experiments.compilers.targets import TARGETS
from experiments.training.pipeline import PREDICTED, STASH, Pipeline, on_one_device
from experiments.training.pipeline import begin as begin_stage


@pytest.mark.parametrize("stages", [2, 4, 8])
def test_every_update_is_that_of_explicit_version_queues(stages):
    ticks = 2 * stages + 7
    found = isolated.run(worker.differences_from_version_queues, stages, ticks, devices=stages)
    assert len(found) == 2 * len(worker.CASES[stages])
    np.testing.assert_array_less(found, 2e-6)


@pytest.mark.parametrize(
    ("optimizer", "backward"), [(adamw_uniform, STASH), (rolled_out, PREDICTED)]
)
def test_one_stage_is_the_plain_loop_bit_for_bit(optimizer, backward):
    plain, found = isolated.run(worker.plain_loop_and_one_stage, optimizer, backward)
    jax.tree.map(np.testing.assert_array_equal, found, plain)


def test_with_stashed_weights_it_is_delayed_by_leaf_on_another_clock():
    late, found = isolated.run(worker.leaves_late_on_one_device, 4, 14, devices=4)
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, rtol=0, atol=1e-6), found, late)


@pytest.mark.parametrize("stages", [1, 2, 4, 8])
def test_gradients_are_as_late_as_the_schedule_says(stages):
    ticks = 3 * stages + 4
    found = isolated.run(worker.measured_delays, stages, ticks, devices=stages)
    tick, stage = np.arange(ticks), np.arange(stages)[:, None]
    micro_batch = tick - (2 * (stages - 1) - stage)
    # Of the first ones the forward pass ran before there was any update.
    expected = np.minimum(micro_batch, 2 * (stages - 1 - stage))
    np.testing.assert_array_equal(found, np.where(micro_batch >= 0, expected, -1))


def test_nothing_is_communicated_but_two_permutes():
    assert isolated.run(programs.collectives, 4, devices=4) == ["collective-permute"] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backward": "stashed"}, "one of stash, predicted, current, estimated, got 'stashed'"),
        ({"stages": 3}, "has 3 stages, but the axis 'stage' has a size of 2"),
        (
            {"cut": CUT._replace(block=lambda params, x: x[:, :2])},
            r"keep shape and dtype; it makes float32\[4, 2\] of float32\[4, 6\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    built = Pipeline(CUT, 2, adamw_uniform(2), batch_of)._replace(**changes)
    begin = on_one_device(2, functools.partial(begin_stage, built))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(begin, make_batches(), make_params(2))


@pytest.mark.parametrize(("stages", "micro_batches"), [(1, 2), (4, 3)])
def test_with_a_flush_it_is_the_plain_step_on_all_micro_batches(stages, micro_batches):
    found, plain = isolated.run(worker.flushed_and_plain, stages, micro_batches, 4, devices=stages)
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, rtol=0, atol=1e-6), found, plain)


@pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda12_plugin") is None,
    reason="jax-cuda12-plugin is not installed",
)
def test_on_eight_h100s_both_permutes_run_under_matrix_products():
    """A tick of two layers has 16: forward, forward again, and two for each gradient."""
    found = {
        backward: isolated.run(
            programs.products_under_permutes, TARGETS["h100"], 8, 2, backward, timeout=300
        )
        for backward in (STASH, PREDICTED)
    }
    assert found == {STASH: [8, 8], PREDICTED: [4, 8]}, "to the stage before; to the next"
