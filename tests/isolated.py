"""Runs a function in a fresh process that has JAX devices of its own.

JAX fixes the number of CPU devices when it first uses one, so a test that needs several runs its
function elsewhere. Importing JAX there would take seconds; instead processes are forked from a
server that has imported it and has no devices yet, which takes a tenth of a second.
"""

import multiprocessing
import os
import tempfile
import traceback
from pathlib import Path

import jax

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["orbax.checkpoint", "xgrad_optax"])


class ChildError(Exception):
    """The function raised, or its process died; the message says all that is known."""


class Child:
    """A process that runs ``function(*args)``, killed at the latest when the context ends."""

    def __init__(self, function, *args, devices=1):
        handle, path = tempfile.mkstemp(prefix="child-", suffix=".log")
        os.close(handle)
        self._log = Path(path)
        self._results, sender = _CONTEXT.Pipe(duplex=False)
        arguments = (sender, path, devices, function, args)
        self._process = _CONTEXT.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        sender.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.kill()
        self._results.close()
        self._process.close()
        self._log.unlink()

    def result(self, timeout):
        """What the function returned; ``TimeoutError`` after ``timeout`` seconds."""
        if not self._results.poll(timeout):
            raise TimeoutError(f"no result within {timeout} s; the process wrote:\n{self.log()}")
        try:
            returned, value = self._results.recv()
        except EOFError:
            code = self.exit_code(timeout=10)
            raise ChildError(f"died with exit code {code}; it wrote:\n{self.log()}") from None
        if not returned:
            raise ChildError(f"{value}\nThe process wrote:\n{self.log()}")
        return value

    def exit_code(self, timeout):
        """Waits for the process to end; ``None`` if it still runs after ``timeout`` seconds."""
        self._process.join(timeout)
        return self._process.exitcode

    def kill(self):
        """SIGKILL: no handler, no cleanup."""
        self._process.kill()
        self._process.join()

    def log(self):
        """What the process wrote to stdout and stderr so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")


def run(function, *args, devices=1, timeout=120):
    """``function(*args)``, evaluated in a fresh process with this number of CPU devices."""
    with Child(function, *args, devices=devices) as child:
        return child.result(timeout)


def _run(sender, log, devices, function, args):
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    try:
        result = (True, function(*args))
    except BaseException:
        result = (False, traceback.format_exc())
    sender.send(result)
