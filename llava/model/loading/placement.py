"""The device and dtype of a model's parts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from llava.arguments import DTYPES, ModelArguments
from llava.errors import UserError
from llava.model.language_model.quantized import check_bits

_DTYPES = {name: getattr(torch, name) for name in DTYPES}


@dataclass(frozen=True)
class Placement:
    """The device and dtype of a part.

    Attributes:
        device: the device of the whole part.
        dtype: the dtype of its parameters.
    """

    device: torch.device
    dtype: torch.dtype

    def device_of(self, name: str) -> torch.device:
        """Returns the device of a parameter: the same for all."""
        return self.device


def placement(args: ModelArguments) -> Placement:
    """Returns the device and dtype that the flags select.

    Raises:
        UserError: there is no such device or dtype, or it does not support quantised weights.
    """
    try:
        device = torch.device(args.device_name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"there is no device {args.device!r} here ({reason}); try --device cpu"
        ) from error
    default = "float32" if device.type == "cpu" else "bfloat16"
    dtype = default if args.dtype == "auto" else args.dtype
    if dtype not in _DTYPES:
        raise UserError(f"there is no dtype {dtype!r}; there are: auto, {', '.join(_DTYPES)}")
    if args.bits is not None:
        check_bits(args.load_4bit, args.load_8bit, device, args.compile, args.device_map)
    return Placement(device, _DTYPES[dtype])


def uses_cuda_graphs(args: ModelArguments, place: Placement) -> bool:
    """Returns whether the passes of the parts become CUDA graphs.

    Raises:
        UserError: the flags ask for them on a CPU, which has none.
    """
    if place.device.type == "cuda":
        return not args.eager
    if args.eager:
        raise UserError(f"--eager has no effect on {place.device.type}: leave it out")
    return False
