"""Several processes on JAX's own distributed runtime, over the loopback interface."""

import contextlib
import socket

import distributed_worker
import isolated
import jax
import numpy as np
import pytest
from isolated import Child, ChildError
from sharded_mlp import TYPICAL

PROCESSES = 2
DEVICES_PER_PROCESS = 2
PATIENCE = 120  # seconds; nothing here takes longer than a few unless it hangs


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


another_port = port


@contextlib.contextmanager
def processes(function, port, *args):
    """``function(port, number of processes, own number, *args)`` in each of them."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                Child(function, port, PROCESSES, i, *args, devices=DEVICES_PER_PROCESS)
            )
            for i in range(PROCESSES)
        ]


@pytest.mark.parametrize("layout", ["data_parallel", "two_dimensional"])
def test_trajectory_is_that_of_one_device(layout, port):
    with processes(distributed_worker.train_together, port, layout) as children:
        (devices, found), (_, found_by_the_other) = [c.result(PATIENCE) for c in children]
    assert devices == PROCESSES * DEVICES_PER_PROCESS
    one, expected = isolated.run(distributed_worker.train, layout)
    assert one == 1
    assert found.keys() == expected.keys() == set(TYPICAL)
    # Sums over the batch are taken in another order: a few rounding errors, no more.
    jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, rtol=0, atol=1e-6), found, expected)
    jax.tree.map(np.testing.assert_array_equal, found, found_by_the_other)
    for form, (base, predicted) in found.items():
        assert all(np.any(base[name] != predicted[name]) for name in base), form


def test_waiting_for_a_process_that_never_comes_ends(port, another_port):
    patience = {"initialization_timeout": 1}
    with (
        Child(join_alone, port, 0, patience) as coordinator,
        Child(join_alone, another_port, 1, patience) as other,
    ):
        for child in (coordinator, other):
            with pytest.raises(ChildError, match=r"another task died.*DEADLINE_EXCEEDED"):
                child.result(PATIENCE)


def join_alone(port, process, patience):
    distributed_worker.join(port, PROCESSES, process, **patience)


@pytest.mark.parametrize("victim", range(PROCESSES), ids=["coordinator", "other"])
def test_training_ends_when_a_process_vanishes(victim, port):
    heartbeat_timeout = 3
    with processes(
        distributed_worker.die_in_the_middle, port, victim, heartbeat_timeout
    ) as children:
        # Whoever notices first: the collective, or the coordination service.
        with pytest.raises(ChildError, match=r"Connection .* by peer|another task died"):
            children[1 - victim].result(PATIENCE)
        assert children[victim].exit_code(PATIENCE) == distributed_worker.VICTIM_EXIT_CODE
