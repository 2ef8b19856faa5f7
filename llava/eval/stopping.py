"""SIGTERM and SIGHUP end a command in order, as Ctrl-C does, and soon."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

GRACE = 10.0  # seconds that the work has to end in order


class Stopped(SystemExit):
    """A signal that ends the work.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)  # what a shell says of a process that the signal ended
        self.reason = f"stopped by {signal.Signals(number).name}"


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Raises Stopped in the work, once, when one of the two signals comes.

    Python hears of a signal only between two of its own steps. Where the work is then within one
    that does not end, as waiting for other processes is, the process ends as it is after GRACE
    seconds. A signal that is ignored (nohup) or handled already stays so.
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
    """Notes on Ctrl-C and on Stopped, as ``kept``, what work that can be gone on with leaves.

    Args:
        how_far: says it; None where nothing is to be said.
    """
    try:
        yield
    except (KeyboardInterrupt, Stopped) as stop:
        stop.kept = how_far()
        raise


def _stop(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one shall not disturb the end
    raise Stopped(number)


def _end_at_last(reader: int, numbers: Collection[int], done: threading.Event) -> None:
    """Waits for a signal; ends the process where the work has not ended GRACE seconds later.

    Args:
        reader: gets a byte with the number of each signal, at once, whatever the work is doing.
        numbers: the signals that end the process.
        done: set when the work has ended.
    """
    while not done.is_set():
        number = os.read(reader, 1)[0]
        if number in numbers and not done.wait(GRACE):
            print(Stopped(number).reason, file=sys.stderr, flush=True)
            os._exit(128 + number)
