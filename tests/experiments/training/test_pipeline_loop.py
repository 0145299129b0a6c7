"""Pipelines that are stopped, or broken, and go on from a checkpoint."""

import isolated
import jax
import numpy as np
import pipeline_programs as programs
import pytest

from experiments.training.pipeline import Seen
from experiments.training.pipeline_loop import StageError, check


def test_a_restart_with_micro_batches_in_flight_goes_on_bit_for_bit(tmp_path):
    whole, parts = isolated.run(programs.interrupted_and_not, 4, tmp_path, devices=4)
    jax.tree.map(np.testing.assert_array_equal, parts, whole)


def test_a_broken_stage_is_named_and_the_last_checkpoint_is_whole(tmp_path):
    message, found, expected = isolated.run(programs.broken_stage, 4, tmp_path, 2, 6, devices=4)
    assert message.startswith("stage 2 of 4 (the first is 0)")
    assert "at tick 6;" in message
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_first_stage_that_breaks_is_named_and_not_those_it_spoils():
    broken = np.zeros((3, 5), bool)
    broken[1, 2:] = broken[0, 3:] = broken[2, 3:] = True
    with pytest.raises(StageError, match=r"^stage 1 of 3 .* at tick 12;"):
        check(Seen(np.zeros((3, 5)), broken), 10)
    check(Seen(np.zeros((3, 5)), ~broken & broken), 10)
