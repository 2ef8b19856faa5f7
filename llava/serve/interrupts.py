"""The effect of Ctrl-C in a chat."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c(handler: Callable[[int, object], object] | signal.Handlers) -> Iterator[None]:
    """Replaces the effect of Ctrl-C, KeyboardInterrupt at any place, in a context.

    Nothing changes if the process does not handle it in the usual way (nohup, a thread).
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt_once(number: int, frame: object) -> None:
    """Raises KeyboardInterrupt, and ignores a second Ctrl-C, which would disturb the ending."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
