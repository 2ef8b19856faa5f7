"""Ends a command in order, and soon, on SIGTERM and SIGHUP, as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

GRACE = 10.0  # seconds for the work to end in order


class Stopped(SystemExit):
    """A signal that ends the work.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        self.status = 128 + number  # a shell's exit status of a process that the signal ended
        super().__init__(self.status)
        self.reason = f"stopped by {signal.Signals(number).name}"


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Raises Stopped in the work, once, when one of the two signals arrives.

    Python handles a signal only between two of its own steps. If the work is within a step that
    does not end, like waiting for other processes, the process is ended after GRACE seconds. A
    signal that is ignored (nohup) or handled already stays so.
    """
    defaults = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL
    ]
    if not defaults or threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    done = threading.Event()
    watcher = threading.Thread(target=_end_at_last, args=(reader, defaults, done), daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in defaults:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        for number in defaults:
            signal.signal(number, signal.SIG_DFL)
        done.set()
        os.write(writer, b"\0")  # wakes the watcher
        watcher.join()
        os.close(reader)
        os.close(writer)


@contextmanager
def noting_what_is_kept(how_far: Callable[[], str | None]) -> Iterator[None]:
    """Records on Ctrl-C and Stopped, as ``kept``, what is kept of work that can be continued.

    Args:
        how_far: returns the words for it, or None.
    """
    try:
        yield
    except (KeyboardInterrupt, Stopped) as stop:
        setattr(stop, "kept", how_far())  # a field that Python's own exception does not declare
        raise


def _stop(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second signal must not disturb the end
    raise Stopped(number)


def _end_at_last(reader: int, numbers: Collection[int], done: threading.Event) -> None:
    """Waits for a signal; ends the process if the work has not ended GRACE seconds later.

    Args:
        reader: receives a byte with the number of each signal at once, whatever the work is doing.
        numbers: the signals that end the process.
        done: set when the work has ended.
    """
    while not done.is_set():
        number = os.read(reader, 1)[0]
        if number in numbers and not done.wait(GRACE):
            print(Stopped(number).reason, file=sys.stderr, flush=True)
            os._exit(128 + number)
