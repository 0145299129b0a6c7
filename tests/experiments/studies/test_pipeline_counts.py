"""Formulas of the schedules against programs and runs of them."""

import isolated
import numpy as np
import pipeline_programs as programs
import pipeline_worker as worker
import pytest

from experiments.studies.pipeline import counts


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_a_run_makes_as_many_updates_and_is_as_late(stages):
    ticks = 3 * stages
    late = isolated.run(worker.measured_delays, stages, ticks, devices=stages)
    made = [counts.updates(stages, stage, ticks) for stage in range(stages)]
    np.testing.assert_array_equal((late >= 0).sum(axis=1), made)
    delays = [counts.delay(stages, stage) for stage in range(stages)]
    np.testing.assert_array_equal(late.max(axis=1), np.minimum(delays, np.subtract(made, 1)))


def test_busy_passes_of_a_small_pipeline_by_hand():
    # Three ticks of two stages: forward 3 + 2 of 6; backward, from tick 2 and tick 1 on, 1 + 2.
    assert counts.busy_share(2, 3) == (5 + 3) / 12
    assert counts.busy_share(1, 5) == 1
    assert 0.99 < counts.busy_share(64, 10_000) < 1


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_a_device_keeps_as_many_bytes(stages):
    found = isolated.run(programs.kept_bytes, stages, devices=stages)
    for stash, (size, input_size, weights_size) in found.items():
        assert size == counts.kept(stages, stash=stash).bytes(input_size, weights_size)


@pytest.mark.parametrize(("stages", "micro_batches"), [(1, 3), (4, 1), (4, 6)])
def test_gpipe_takes_as_many_ticks_and_keeps_as_many_inputs(stages, micro_batches):
    lengths, kept = programs.flushed_program(stages, micro_batches)
    assert lengths == [counts.flushed_ticks(stages, micro_batches)] * 2
    assert kept == counts.flushed_kept(micro_batches).inputs
    share = counts.flushed_busy_share(stages, micro_batches)
    assert share == pytest.approx(stages * micro_batches / (stages * lengths[0]))
