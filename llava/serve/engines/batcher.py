"""Dynamic batching: requests that come at about the same time go through the model together."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from llava.errors import UserError
from llava.serve.engines.engine import EngineError, Job, Unavailable

_log = logging.getLogger(__name__)
_STOPPED = "the server is being stopped: ask again when it is back"


class Batcher:
    """A thread that owns the model: it collects jobs, and works on one batch after the other.

    Jobs that come while a batch is worked on wait, and make the next one together.

    Args:
        work: answers a batch. If it raises an exception, the jobs without a token are tried again,
            one by one, so that only those whose fault it is receive the exception.
        most: largest batch.
        seconds: that the first job of a batch waits for others.
    """

    def __init__(self, work: Callable[[list[Job]], None], most: int, seconds: float) -> None:
        self._work = work
        self._most = most
        self._seconds = seconds
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="model")

    def start(self) -> None:
        """Starts to work."""
        self._thread.start()

    def put(self, job: Job) -> None:
        """Adds a job to those that wait.

        Raises:
            Unavailable: the thread has ended.
        """
        if self._is_closed or not self._thread.is_alive():
            raise Unavailable(_STOPPED)
        self._jobs.put(job)

    @property
    def waiting(self) -> int:
        """The number of jobs in no batch yet."""
        return self._jobs.qsize()

    @property
    def is_alive(self) -> bool:
        """Whether it works, or waits for work."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Refuses further jobs, and those that wait; the present batch goes on in its thread."""
        self._is_closed = True
        self._jobs.put(None)

    def _run(self) -> None:
        while (first := self._jobs.get()) is not None and not self._is_closed:
            self._try(self._collect(first))
        if first is not None:
            first.tell(Unavailable(_STOPPED))
        while not self._jobs.empty():
            left = self._jobs.get()
            if left is not None:
                left.tell(Unavailable(_STOPPED))

    def _try(self, jobs: list[Job]) -> None:
        """Answers a batch; jobs that nobody waits for are left out."""
        jobs = [job for job in jobs if not job.has_left]
        try:
            if jobs:
                self._work(jobs)
        except Exception as error:  # one batch fails, and the next one may not
            failure = _failure(error)
            for job in jobs:
                if job.is_begun or len(jobs) == 1:
                    job.tell(failure)
                else:
                    self._try([job])

    def _collect(self, first: Job) -> list[Job]:
        """Returns a batch: a job, and those that come soon after it."""
        jobs, end = [first], time.monotonic() + self._seconds
        while len(jobs) < self._most:
            try:
                job = self._jobs.get(timeout=max(end - time.monotonic(), 0))
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            jobs.append(job)
        return jobs


def _failure(error: Exception) -> Exception:
    """Returns the error that a client sees; one that nobody expected goes to the log."""
    if isinstance(error, (UserError, EngineError)):
        return error
    _log.error("a batch failed", exc_info=error)
    return EngineError("the server failed on this request, and its log says why: report it")
