"""The LLM's weights in 8 or 4 bits: bitsandbytes, through transformers' own way of loading them."""

from __future__ import annotations

import torch
from transformers import BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available

from llava.errors import UserError
from llava.extras import missing_package


def check_bits(
    load_4bit: bool, load_8bit: bool, device: torch.device, compiled: bool, device_map: str | None
) -> None:
    """Refuses quantised weights where they cannot work, before anything large is read.

    Args:
        load_4bit, load_8bit: the precision asked for; at least one of the two.
        device: of the model.
        compiled: whether the LLM is to be compiled.
        device_map: how the LLM is to be spread over GPUs.

    Raises:
        UserError: the message says why, and names the way out.
    """
    flag = "--load-4bit" if load_4bit else "--load-8bit"
    if load_4bit and load_8bit:
        raise UserError("--load-4bit and --load-8bit exclude each other: leave out one of the two")
    if device.type != "cuda":
        raise UserError(
            f"{flag} is for a GPU, whose products bitsandbytes has in so few bits, and the device "
            f"here is {device}: leave it out (--dtype bfloat16 takes half of float32's memory)"
        )
    if compiled:
        raise UserError(f"--compile knows no quantised weights: leave out it or {flag}")
    if device_map is not None:
        raise UserError(f"{flag} works on one GPU: leave out it or --device-map")
    if not is_bitsandbytes_available():
        raise missing_package(flag, "bitsandbytes 0.46.1 or newer", "quantized")


def bits_config(load_4bit: bool, dtype: torch.dtype) -> BitsAndBytesConfig:
    """Returns transformers' settings, as LLaVA's: 8 bits, or 4 as nf4 with double quantisation.

    Args:
        load_4bit: whether 4 bits are used, not 8.
        dtype: of the matrix products.
    """
    if not load_4bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
