"""Flags of llava.eval.bench and llava.eval.bench.batches, and the checks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

from llava.arguments import ModelArguments, flag, list_flag
from llava.budgets import AskedBudget
from llava.compensations import CAPTIONS, NOTHING
from llava.errors import UserError
from llava.model.shapes import (
    LLAVA_7B,
    LLAVA_13B,
    LLAVA_NEXT_7B,
    MINI,
    QWEN_3B,
    QWEN_7B,
    QWEN_TINY,
)

HF, HF_PACKED, FULL, PRUNE, ACCM = METHODS = ("hf", "hf-packed", "full", "prune", "accm")
_MINI = replace(
    MINI,
    text=MINI.text | dict(vocab_size=1024, bos_token_id=1022, eos_token_id=1023),
    gpt2=MINI.gpt2 | dict(vocab_size=1024, bos_token_id=1023, eos_token_id=1023),
    llm=MINI.llm | dict(vocab_size=1024),
)
SHAPES = {
    "mini": _MINI,
    "mini-next": replace(_MINI, resolutions=((192, 192),)),
    "llava-1.5-7b": LLAVA_7B,
    "llava-1.5-13b": LLAVA_13B,
    "llava-next-7b": LLAVA_NEXT_7B,
}
QWEN_SHAPES = {
    "qwen-tiny": QWEN_TINY,
    "qwen2.5-vl-3b": QWEN_3B,
    "qwen2.5-vl-7b": QWEN_7B,
}


@dataclass
class BenchArguments(ModelArguments):
    """Flags of the command."""

    serve: Optional[str] = flag(
        "Measure, instead of methods, a running server at this address; bench --serve URL --help "
        "lists the flags of that."
    )
    shape: Optional[str] = flag(
        "Random weights of this shape in the place of --model-path. Those of Qwen2.5-VL are for "
        "--methods hf full prune, and pruned by attention received.",
        choices=(*SHAPES, *QWEN_SHAPES),
    )
    llm_layers: Optional[int] = flag("With --shape: fewer layers of the LLM, for small machines.")
    share_layers: bool = flag(
        "With --shape: all layers of the LLM share the weights of one, for machines whose memory "
        "does not hold them all. From 3B on the times stay those of the whole LLM, because the "
        "caches of a processor hold not even one layer.",
        False,
    )
    products: bool = flag(
        "Measure, instead of methods, the forms of matrix products that --cpu-products chooses "
        "from, and say what this machine would change in the table of the project.",
        False,
    )
    methods: list[str] = list_flag(
        "What is compared: hf (transformers' own LLaVA), hf-packed (the same, reading its weights "
        "as --cpu-products says for this pipeline), full (this pipeline with all tokens), prune, "
        "accm.",
        (HF, FULL, PRUNE, ACCM),
        METHODS,
    )
    compensation: str = flag("The bench has --methods instead.", CAPTIONS, off=NOTHING)
    device_map: Optional[str] = flag("The bench works on one device: leave it out.")
    budgets: list[AskedBudget] = list_flag(
        "Visual tokens that prune and accm keep: numbers, or shares of all (1/9, 11%).", (36,)
    )
    batch_sizes: list[int] = list_flag("Questions at once.", (1,))
    questions_per_image: int = flag("So many questions of a batch are about one image.", 1)
    caption_length: int = flag("Tokens of every candidate caption.", 15)
    answer_length: int = flag("Tokens of every answer.", 4)
    rounds: int = flag("Times that each case is timed.", 7)
    warm_up: int = flag("Rounds before them that do not count.", 1)
    seed: int = flag("Of weights and images.", 0)
    picture: bool = flag("Draw OUTPUT/bench.png (needs matplotlib).", True)
    output: str = flag("Folder for bench.json, bench.md and bench.png.", "outputs/bench")


@dataclass
class BatchesArguments(ModelArguments):
    """Flags of the command."""

    shape: Optional[str] = flag(
        f"Random weights in the place of --model-path: {', '.join(SHAPES)}."
    )
    llm_layers: Optional[int] = flag("With --shape: fewer layers of the LLM, for small machines.")
    data_root: str = flag(
        "With --model-path: folder of the benchmarks.", "playground/data/mini/eval"
    )
    questions: int = flag("So many; of benchmarks, spread evenly over all.", 56)
    batch_size: int = flag("Questions at once.", 8)
    budgets: list[AskedBudget] = list_flag(
        "Visual tokens that are kept: numbers, or shares of all (1/9, 11%).", (36,)
    )
    seed: int = flag("With --shape: of weights and images.", 0)


def check_source(args: BenchArguments | BatchesArguments) -> None:
    """Refuses neither or both of a checkpoint and random weights, and quantised random weights.

    Raises:
        UserError: a flag is wrong; the message names it.
    """
    shape = args.shape
    if (shape is None) == (args.model_path is None):
        raise UserError("say what to measure: --shape NAME for random weights, or --model-path")
    known = (*SHAPES, *QWEN_SHAPES) if isinstance(args, BenchArguments) else tuple(SHAPES)
    if shape is not None and shape not in known:
        raise UserError(f"there is no shape {shape!r}; there are: {', '.join(known)}")
    if shape is not None and args.bits is not None:
        raise UserError("--load-4bit and --load-8bit have no effect with --shape: leave them out")
    if args.llm_layers is None:
        return
    if shape is None:
        raise UserError("--llm-layers goes with --shape: a checkpoint has the layers that it has")
    check_positive({"llm-layers": args.llm_layers})


def check_shared_layers(args: BenchArguments, is_packed: bool) -> None:
    """Refuses shared layers where each layer has weights of its own.

    Args:
        args: the flags.
        is_packed: whether the LLM's layers pack their weights.

    Raises:
        UserError: the message names the flag.
    """
    if not args.share_layers:
        return
    if args.shape is None:
        raise UserError("--share-layers goes with --shape: a checkpoint has weights for each layer")
    if is_packed:
        raise UserError(
            "--share-layers has no effect where each layer packs its weights: say "
            "--cpu-products plain, or leave it out"
        )


def check_budgets(budgets: Sequence[AskedBudget]) -> None:
    """Refuses numbers below 1, and no budget at all, before the number of all tokens is known.

    Raises:
        UserError: the message names the flag.
    """
    check_positive(
        {"budgets": min((b for b in budgets if isinstance(b, int)), default=len(budgets))}
    )


def check_positive(numbers: Mapping[str, int]) -> None:
    """Refuses numbers below 1; they are given by the names of their flags.

    Raises:
        UserError: a number is below 1; the message names its flag.
    """
    for name, value in numbers.items():
        if value < 1:
            raise UserError(f"--{name} has {value}; it must be at least 1")
