"""Late gradients on several devices and processes, each with its own in flight."""

import isolated
import jax
import late_worker
import numpy as np
import pytest
from test_distributed import DEVICES_PER_PROCESS, PATIENCE, PROCESSES, port, processes

__all__ = ["port"]


def assert_close(found, expected):
    # Means over the batch are taken in another order: a few rounding errors, no more.
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, rtol=0, atol=2e-6), found, expected)


def test_two_processes_train_as_one_loop_with_a_queue(port):
    with processes(late_worker.train_together, port, {}) as children:
        (devices, found), (_, by_the_other) = [child.result(PATIENCE) for child in children]
    assert devices == PROCESSES * DEVICES_PER_PROCESS
    assert_close(found, isolated.run(late_worker.train_with_a_queue))
    jax.tree.map(np.testing.assert_array_equal, found, by_the_other)


def test_two_processes_predict_with_what_each_device_has_in_flight(port):
    with processes(late_worker.train_together, port, {"in_flight": True}) as children:
        found = [child.result(PATIENCE)[1] for child in children]
    assert_close(found[0], isolated.run(late_worker.train_in_flight_with_queues, 4))
    jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint of four devices with gradients in flight, and where that run ended."""
    directory = tmp_path_factory.mktemp("late") / "checkpoint"
    return directory, isolated.run(late_worker.save_and_go_on, directory, devices=4)


def test_a_restart_keeps_the_gradients_in_flight(saved):
    directory, expected = saved
    found = isolated.run(late_worker.restore_and_go_on, directory, 4, devices=4)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_a_restart_on_another_number_of_devices_applies_the_same_gradients(saved, devices):
    directory, expected = saved
    found = isolated.run(late_worker.restore_and_go_on, directory, devices, devices=8)
    assert_close(found, expected)


def test_gradients_that_jax_has_summed_are_refused():
    message = isolated.run(late_worker.gradients_summed_by_jax, devices=4)
    assert "already summed over ['data']" in message
    assert "check_vma=False" in message


def test_where_types_say_what_varies_the_numbers_are_the_same():
    found = isolated.run(late_worker.train_where_types_say_what_varies, devices=4)
    assert_close(found, isolated.run(late_worker.train_with_a_queue))
