"""Ctrl-C between two steps: a step gives its arrays away, so a run can only be saved there."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Makes Ctrl-C a wish within the block; a second one raises ``KeyboardInterrupt`` at once.

    Where Ctrl-C does not raise it in the first place, nothing changes: in another thread than the
    main one, or where a program or a shell has decided otherwise.

    Yields:
        Says whether Ctrl-C has come.
    """
    came = False

    def note(*_: object) -> None:
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if not _ctrl_c_raises():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _ctrl_c_raises() -> bool:
    in_main = threading.current_thread() is threading.main_thread()
    return in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
