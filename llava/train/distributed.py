"""The processes that train one model: sums over all, and failures that reach all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from typing import Any, Optional, TypeVar

import torch
from torch import distributed

from llava.errors import UserError
from llava.utils.distributed import Processes, others_gone

Result = TypeVar("Result")


class Team(Processes):
    """The processes of a training run.

    Args:
        device: auto, cpu or cuda.

    Raises:
        UserError: there is no GPU and one was asked for.
    """

    def __init__(self, device: str) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device is cuda, and torch finds no GPU here: try --device cpu")
        super().__init__(device)
        if self.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def sum_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replaces each tensor by its sum over all processes.

        Raises:
            UserError: a process is gone.
        """
        if self.count == 1:
            return
        with others_gone():
            works = [distributed.all_reduce(tensor, async_op=True) for tensor in tensors]
            for work in works:
                work.wait()

    def copy_first_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replaces each tensor by the first process's values.

        Raises:
            UserError: a process is gone.
        """
        if self.count == 1:
            return
        with others_gone():
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def agree(self, failure: Optional[Exception] = None) -> None:
        """Raises on every process if one of them failed; all must call it.

        Raises:
            UserError: the message of the first that failed; this process's own failure, of
                whichever type, is raised as it is.
        """
        failed = torch.tensor(failure is not None, dtype=torch.float32, device=self.device)
        self.sum_([failed])
        if not failed.item():  # the usual case, once a step: without pickled messages
            return
        told = None if failure is None else _tell(failure)
        messages = [message for message in self.gather(told) if message is not None]
        if failure is not None:
            raise failure
        raise UserError(messages[0])

    def first_does(self, work: Callable[[], Result]) -> Optional[Result]:
        """Returns the result of the first process's work; None on the others.

        All must call it.

        Raises:
            UserError: the work failed.
        """
        result, failure = None, None
        if self.is_first:
            try:
                result = work()
            except Exception as error:
                failure = error
        self.agree(failure)
        return result

    def first_then_all(self, work: Callable[[], Result]) -> Result:
        """Runs work on the first process, then on the others; returns its result on each.

        When the others begin, the first has left on the disk what they need. All must call it.

        Raises:
            UserError: the work failed.
        """
        result = self.first_does(work)
        return result if self.is_first else work()  # type: ignore[return-value]  # not None there

    @contextmanager
    def first_opens(self, work: Callable[[], Any]) -> Iterator[Any]:
        """Opens something on the first process and closes it at the end; None on the others.

        Raises:
            UserError: it cannot be opened.
        """
        opened = self.first_does(work)
        with nullcontext() if opened is None else closing(opened):
            yield opened


def _tell(failure: Exception) -> str:
    if isinstance(failure, UserError):
        return str(failure)
    return f"another process failed: {type(failure).__name__}: {failure}"
