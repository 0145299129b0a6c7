"""Quick compilation, and what JAX compiles."""

import contextlib

import jax


@contextlib.contextmanager
def quick_compilation():
    """Leaves the optimization of programs as it is, but not that of their machine code.

    For tests that compile much, compute little, and compare no bits: without it two programs for
    one formula differ in fewer ways.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@contextlib.contextmanager
def compilations():
    """Collects what JAX traces, lowers and compiles."""
    events = []

    def listen(event, duration, **_):
        del duration
        if event.startswith("/jax/core/compile/"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield events
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
