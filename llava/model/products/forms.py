"""The form of each part's matrix products: a table, measured once per processor.

No process measures for itself: the result would depend on the load of the machine, and with it, in
half precision, a few answers. ``llava.eval.bench --products`` measures, and prints what it would
change here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from llava.arguments import CPU_PRODUCTS
from llava.errors import UserError

PRUNING_PARTS = ("tower", "projector", "llm")  # a model without captions has only these
# The parts of the compensations, by the flags of the files that have them.
PARTS_OF = {
    "caption_model": ("gpt2", "mapper"),
    "longclip": ("long_clip",),
    "selector": ("selector",),
}
PARTS = (*PRUNING_PARTS, "gpt2", "mapper", "long_clip", "selector")
# Layers with a side below this gain nothing measurable, and stay plain under "auto".
SMALL = 512


@dataclass(frozen=True)
class Form:
    """How the layers of a part read their weights.

    Attributes:
        is_packed: whether the weights are stored in the blocks of oneDNN's kernels.
        turned_rows: a product of up to this many positions of each sequence is computed as
            ``(W @ x.T).T``, and so reads the weights in memory order. It does not depend on the
            batch's number of sequences, which would change last digits.
    """

    is_packed: bool = False
    turned_rows: int = 0

    def __str__(self) -> str:
        if self.is_packed:
            return "packed"
        return f"turned to {self.turned_rows}" if self.turned_rows else "plain"


PLAIN, PACKED = Form(), Form(is_packed=True)
# The steps of decoding and of beams are turned; prompts, even short ones, are not: a batch of them
# has many rows.
TURNED_STEPS = Form(turned_rows=8)
_ALL_PACKED = dict.fromkeys(PARTS, PACKED)

# Processor and dtype -> the parts that are not plain; docs/performance.md has the measurements.
TABLE: Mapping[tuple[str, torch.dtype], Mapping[str, Form]] = {
    ("amd avx512_bf16", torch.float32): _ALL_PACKED,
    ("amd avx512_bf16", torch.bfloat16): _ALL_PACKED,
    ("intel amx", torch.float32): {"llm": PACKED},
    ("intel amx", torch.bfloat16): {
        "llm": TURNED_STEPS,  # packed, steps of one row take 1.4 times as long
        "gpt2": PACKED,
        "long_clip": PACKED,
        "selector": PACKED,
        "projector": PACKED,
    },
}

_VENDORS = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}
_LEVELS = {"amx_bf16": "amx", "avx512_bf16": "avx512_bf16", "avx512f": "avx512", "avx2": "avx2"}


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the kind of the processor, such as "amd avx512_bf16".

    "other" where Linux does not say, or where it has no AVX2.
    """
    if not cpuinfo.is_file():
        return "other"
    lines = dict(re.findall(r"^(vendor_id|flags)\s*:\s*(.*)$", cpuinfo.read_text(), re.MULTILINE))
    vendor = _VENDORS.get(lines.get("vendor_id", "").strip())
    flags = lines.get("flags", "").split()
    level = next((name for flag, name in _LEVELS.items() if flag in flags), None)
    return f"{vendor} {level}" if vendor and level else "other"


def choose_forms(
    choice: str,
    device: torch.device,
    dtype: torch.dtype,
    compiled: bool = False,
    kind: str | None = None,
) -> dict[str, Form]:
    """Returns the form of each part of PARTS.

    Args:
        choice: of CPU_PRODUCTS; "auto" takes the table's forms, and on a GPU plain ones.
        device: of the model.
        dtype: of the model.
        compiled: whether the LLM is compiled, which supports only plain products.
        kind: from processor(), which is called if this is None.

    Raises:
        UserError: there is no such choice, or "packed" is not available here.
    """
    if choice not in CPU_PRODUCTS:
        raise UserError(
            f"there is no --cpu-products {choice!r}; there are: {', '.join(CPU_PRODUCTS)}"
        )
    if choice == "packed":
        if device.type != "cpu":
            raise UserError(
                f"--cpu-products packed has no effect on {device}: leave it out, or say "
                "--device cpu"
            )
        if compiled:
            raise UserError("--compile knows no packed weights: leave out one of the two")
        if not can_pack(dtype):
            name = str(dtype).removeprefix("torch.")
            raise UserError(
                f"this torch or this processor cannot pack {name} weights: leave out "
                "--cpu-products packed"
            )
        return dict(_ALL_PACKED)
    is_open = choice == "auto" and device.type == "cpu"
    found = TABLE.get((kind or processor(), dtype), {}) if is_open else {}
    if any(form.is_packed for form in found.values()) and not can_pack(dtype):
        found = {}
    return dict.fromkeys(PARTS, PLAIN) | dict(found) | ({"llm": PLAIN} if compiled else {})


def can_pack(dtype: torch.dtype) -> bool:
    """Tells whether torch packs weights here.

    Its operations for that are private and may go, and their results must be a plain product's.
    """
    weight = torch.arange(-12, 12).view(6, 4).to(dtype)
    rows = torch.arange(8).view(2, 4).to(dtype)
    try:
        found = packed_linear(rows, pack(weight), None)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return found.equal(torch.nn.functional.linear(rows, weight))


def pack(weight: torch.Tensor) -> torch.Tensor:
    """Packs a matrix (out, in) as oneDNN's kernels for many and for few rows read it.

    It keeps its shape and dtype, and ``to_dense()`` unpacks it.
    """
    return torch.ops.mkldnn._reorder_linear_weight(weight, None)


def packed_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Returns ``x @ weight.T + bias`` (..., out) of x (..., in) and a packed weight (out, in)."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def described(forms: Mapping[str, Form], choice: str) -> str:
    """Returns forms as a run records them: "plain", "packed", or each part that is not plain.

    Args:
        forms: of the parts that the run loads.
        choice: the choice that gave them.
    """
    words = [f"{part} {form}" for part, form in forms.items() if form != PLAIN]
    if choice == "packed" or not words:
        return choice if words else "plain"
    return f"{', '.join(words)}, from {SMALL}"
