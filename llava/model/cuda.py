"""Work on a GPU while the CPU continues: CUDA graphs, an asynchronous stop, a second stream."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any, Union
from weakref import WeakMethod

import torch
from cachetools import LRUCache
from torch import Tensor

MAX_GRAPHS = 32  # of one function, the latest used; a graph takes a few MB
# The largest first input, in numbers. A larger one keeps the GPU busy for longer than Python needs
# to start its kernels: 6 images for CLIP, 512 positions for LLaVA-1.5-7B.
LARGEST_INPUT = 1 << 21

Tensors = Union[Tensor, tuple[Tensor, ...]]


class CudaGraph:
    """A call of a function as a CUDA graph.

    Args:
        function: see CudaGraphs.
        inputs: example inputs of the same shapes and dtypes; the function does not run on them.
        pool: the memory that its graphs share; they run one at a time.
    """

    def __init__(
        self, function: Callable[..., Tensors], inputs: Sequence[Tensor], pool: Any
    ) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        # Other threads, which read images meanwhile, may use the GPU.
        how = {"pool": pool, "capture_error_mode": "thread_local"}
        with torch.cuda.graph(self._graph, **how):
            self._outputs = function(*self._inputs)

    def replay(self, inputs: Sequence[Tensor]) -> Tensors:
        """Returns new tensors with the function's outputs for inputs like the recorded ones."""
        for own, given in zip(self._inputs, inputs):
            own.copy_(given)
        self._graph.replay()
        if isinstance(self._outputs, Tensor):
            return self._outputs.clone()
        return tuple(tensor.clone() for tensor in self._outputs)


RECORDERS = {"cuda": CudaGraph}  # by the type of the device


class CudaGraphs:
    """A function of tensors that becomes CUDA graphs on a GPU, one for each kind of input.

    Python starts some hundred kernels in the time that the GPU needs for thousands of small ones. A
    graph starts all of them at once, the same kernels with the same results. The first call with
    inputs of certain shapes calls the function directly, the second records it, later ones replay
    the record. Outside of inference, on a CPU and for large inputs, the function is always called
    directly.

    Args:
        function: takes tensors on one device and returns one or a tuple of them. It must not wait
            for the device, and must depend only on tensors that stay at their place in memory,
            which it may change.
    """

    def __init__(self, function: Callable[..., Tensors]) -> None:
        # The owner of a method has these graphs: a reference back would keep both alive.
        is_method = isinstance(function, MethodType)
        self._find = WeakMethod(function) if is_method else lambda: function
        self._graphs: LRUCache[Hashable, CudaGraph | None] = LRUCache(MAX_GRAPHS)
        self._pool: Any = None

    @property
    def _function(self) -> Any:
        return self._find()

    def __call__(self, *inputs: Tensor, **settings: Hashable) -> Any:
        """Returns the function's outputs; other settings need another graph, like other shapes."""
        run = partial(self._function, **settings)
        record = RECORDERS.get(inputs[0].device.type)
        is_large = inputs[0].numel() > LARGEST_INPUT
        if record is None or is_large or not torch.is_inference_mode_enabled():
            return run(*inputs)
        shapes = ((tensor.shape, tensor.dtype, tensor.device) for tensor in inputs)
        kind = (*shapes, *settings.items())
        if kind not in self._graphs:
            self._graphs[kind] = None
            return run(*inputs)
        graph = self._graphs[kind]
        if graph is None:
            graph = self._graphs[kind] = self._recorded(record, run, inputs)
        return graph.replay(inputs) if graph else run(*inputs)

    def _recorded(
        self, record: type[CudaGraph], run: Callable[..., Tensors], inputs: Sequence[Tensor]
    ) -> CudaGraph | None:
        """Returns a graph for inputs like these; None, and warns, if there cannot be one."""
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            return record(run, inputs, self._pool)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            name = getattr(self._function, "__qualname__", "a function")
            warnings.warn(f"{name} runs without CUDA graphs: {reason}", stacklevel=3)
            return None


class AsyncStopFlag:
    """Whether a loop whose work runs on a device may stop.

    On a GPU the CPU runs ahead. If it asked after every step, the GPU would idle while the next
    step is prepared; so the answer is about an earlier step, and the loop makes one step too many,
    which must be harmless.

    Args:
        device: where the flags are.
        lag: number of steps that the answer is behind; None takes 1 on a GPU, 0 elsewhere.
    """

    def __init__(self, device: torch.device, lag: int | None = None) -> None:
        self._cuda = device.type == "cuda"
        self._lag = int(self._cuda) if lag is None else lag
        self._flags: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()

    def push(self, flag: Tensor) -> None:
        """Records the flag () bool of a step."""
        if not self._cuda:
            self._flags.append((flag, None))
            return
        copy = torch.empty((), dtype=torch.bool, pin_memory=True)
        copy.copy_(flag, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(flag.device))
        self._flags.append((copy, arrived))

    def is_set(self) -> bool:
        """Returns whether a flag was set, as far as the CPU knows."""
        if len(self._flags) <= self._lag:
            return False
        flag, arrived = self._flags.popleft()
        if arrived is not None:
            arrived.synchronize()
        return bool(flag)


class SideStream:
    """A second stream of a GPU; on a CPU, everything runs in turn."""

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None

    @contextmanager
    def beside(self, *inputs: Tensor) -> Iterator[None]:
        """Runs the work inside the block at the same time as later work of the main stream.

        Args:
            inputs: tensors of the main stream that it reads, on one device; their memory is not
                reused before that.
        """
        device = inputs[0].device
        if device.type != "cuda":
            yield
            return
        if self._stream is None or self._stream.device != device:
            self._stream = torch.cuda.Stream(device)
        for tensor in inputs:
            tensor.record_stream(self._stream)
        # Memory that this stream freed may still be read by the main one, so it waits for that too.
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """Makes the main stream wait for the work of this stream."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
