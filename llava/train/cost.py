"""Computes what training on LLaVA-1.5-7B takes: ``python -m llava.train.cost`` prints a table.

The formulas of a transformer are those of llava.model.cost, as in llava.eval.bench. No library has
them: those that count operations run a model, and none knows the stages of this training.

No GPU was available: no stage's time or memory is measured. Memory follows from shapes. Time is the
longest of arithmetic (operations over a card's peak times UTILISATION), of memory (weights that a
step reads over the card's bandwidth) and of Python (LAYER_SECONDS), plus the CPU's work. Searches
and answers are assumed to be as long as allowed, so their times are upper bounds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from llava.markdown import markdown_table
from llava.model.cost import BF16, FLOAT32, Shape

UTILISATION = 0.35  # share of a card's dense bfloat16 peak that matrices of these sizes reach
LAYER_SECONDS = 5e-4  # Python to launch one layer's kernels; small steps wait for it
RESERVE = 1.0e9  # bytes: CUDA's context, its libraries, gaps between tensors
DISK = 2.0e9  # bytes a second, an NVMe
CORES = 8
# Seconds of one CPU core: the only figures that were timed, once, on a Xeon under load.
IMAGE_SECONDS = 0.0115  # read and preprocess a JPEG of 640 x 480
COLLATE_SECONDS = 0.0016  # float32 of an image's features, and ACCM's choice among them
SORT_SECONDS = 0.0044  # sort GPT-2's vocabulary, for nucleus and top-k
DRAW_SECONDS = 0.0013  # draw one token from it

TRAINED = 4 * FLOAT32  # bytes: a weight, its gradient, AdamW's two moments
# Bytes kept for the backward pass in bfloat16, per token, layer and unit of width (arXiv
# 2205.05198), without the attention matrix, which fused attention does not keep.
ACTIVATION = 34
GPT2_GELU = 64  # additional bytes: GPT-2's GELU is four float32 tensors of four times the width


def activation_bytes(shape: Shape, tokens: int, more: int = 0) -> int:
    """Returns the bytes that a sequence's backward pass needs; more: bytes beyond ACTIVATION."""
    return tokens * shape.layers * shape.width * (ACTIVATION + more)


LLAMA = Shape(4096, 32, 11008, vocabulary=32000, gated=True)
VISION = Shape(1024, 24, 4096, positions=577)
TEXT = Shape(768, 12, 3072, vocabulary=49408, positions=77)
LONG_CLIP = Shape(768, 12, 3072, vocabulary=49408, positions=248)
GPT2 = Shape(768, 12, 3072, vocabulary=50257, positions=1024)
MAPPER = Shape(768, 4, 1536)
SELECTOR = Shape(768, 4, 1536)
PROJECTOR = 1024 * 4096 + 4096**2
CLIP_BYTES = BF16 * (VISION.parameters + TEXT.parameters)
LLM_BYTES = BF16 * (LLAMA.parameters + PROJECTOR)  # and the projector's

PATCHES, WIDTHS = 576, 1024 + 768  # what the tower's outputs take on disk, float16
KEPT = 36  # visual tokens in stages 2 and 3
QUESTION, PREFIX, CAPTION = 15, 20, 12  # tokens for GPT-2
PROMPT, HINT, ANSWER = 60, 15, 3  # tokens for the LLM
MAX_CAPTION, MAX_ANSWER, CANDIDATES = 67, 16, 3

IMAGES, CAPTIONS, EPOCHS, CAPTION_BATCH = 118_287, 591_753, 10, 40
QUESTIONS, TRIED_AT_ONCE, BATCH = 100_000, 32, 4


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        name: as it is sold.
        operations: per second, dense bfloat16, at its peak.
        bandwidth: bytes per second.
    """

    name: str
    operations: float
    bandwidth: float

    def pass_seconds(self, operations: float, layers: int) -> float:
        """Returns the time of one pass (or several, their layers together) over a batch."""
        return max(operations / (UTILISATION * self.operations), layers * LAYER_SECONDS)

    def decode_seconds(self, shape: Shape, steps: int, cached: float, weight: int = BF16) -> float:
        """Returns the time of steps of one token each.

        Args:
            shape: of the decoder.
            steps: their number.
            cached: bytes of keys and values that a step reads.
            weight: bytes per parameter.
        """
        read = (weight * shape.parameters + cached) / self.bandwidth
        return steps * max(read, shape.layers * LAYER_SECONDS)


CARDS = (Card("RTX 4090, 24 GB", 165e12, 1.0e12), Card("A100, 80 GB", 312e12, 2.0e12))
SMALL_CARD = 24e9  # bytes


@dataclass(frozen=True)
class Work:
    """A part of a stage on a card.

    Attributes:
        name: stage and part.
        bytes: the card's peak memory.
        parts: seconds of each part, in sequence.
    """

    name: str
    bytes: float
    parts: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """The time of all parts."""
        return sum(self.parts.values())


def look(card: Card, stage: str, images: int) -> Work:
    """Returns the work of CLIP over images, 64 at once; its outputs are written to the disk."""
    hidden = 64 * VISION.positions * VISION.width * BF16
    memory = CLIP_BYTES + (VISION.layers + 1 + 2 * 4) * hidden + RESERVE
    parts = {
        "CLIP": card.pass_seconds(images * VISION.operations(VISION.positions), 0),
        "preprocessing (CPU)": images * IMAGE_SECONDS,
        "disk": images * feature_bytes() / DISK,
    }
    return Work(f"{stage}: the tower's outputs", memory, parts)


def learn_captions(card: Card) -> Work:
    """Returns stage 1, in bfloat16.

    A thread makes the next batch meanwhile; each is padded to its longest sample, nearly always one
    of the smallest budget.
    """
    steps = CAPTIONS * EPOCHS / CAPTION_BATCH
    read, written = PATCHES - 18 + PREFIX, QUESTION + PREFIX + CAPTION
    each = MAPPER.operations(read) + GPT2.operations(written, CAPTION)
    backward = 3  # forward, and two passes like it backward
    gpu = card.pass_seconds(
        backward * CAPTION_BATCH * each, backward * (MAPPER.layers + GPT2.layers)
    )
    batch = CAPTION_BATCH * (COLLATE_SECONDS + feature_bytes() / DISK)
    activations = activation_bytes(MAPPER, read) + activation_bytes(GPT2, written, GPT2_GELU)
    logits = CAPTION * GPT2.vocabulary * (BF16 + 3 * FLOAT32)
    memory: float = (TRAINED + BF16) * (GPT2.parameters + MAPPER.parameters) + CLIP_BYTES
    memory += CAPTION_BATCH * (activations + logits) + RESERVE
    longer = max((gpu, "GPU"), (batch, "making batches (1 thread)"))
    parts = {longer[1]: steps * longer[0]}
    return Work("train_caption: 10 epochs", memory, parts)


def try_captions(card: Card) -> Work:
    """Returns stage 2 before it learns: captions (nucleus, top-k, greedy), each read by the LLM."""
    batches, rows = QUESTIONS / TRIED_AT_ONCE, TRIED_AT_ONCE
    context = QUESTION + PREFIX + MAX_CAPTION
    search = card.decode_seconds(GPT2, MAX_CAPTION, rows * GPT2.cache_bytes(context))
    drawn = 2 * MAX_CAPTION * rows * (SORT_SECONDS / CORES + DRAW_SECONDS)
    short = KEPT + PROMPT + HINT + ANSWER
    reading = card.pass_seconds(rows * LLAMA.operations(short, ANSWER), LLAMA.layers)
    memory: float = LLM_BYTES + BF16 * (GPT2.parameters + MAPPER.parameters)
    memory += rows * (GPT2.cache_bytes(context) + pass_bytes(short)) + RESERVE
    parts = {
        "GPT-2's steps": batches * 3 * search,
        "drawing tokens (CPU)": batches * drawn,
        "the LLM": batches * CANDIDATES * reading,
    }
    return Work("train_selector: 100,000 questions tried", memory, parts)


def answer_fully(card: Card) -> Work:
    """Returns stage 3 before it learns: the LLM answers with all tokens."""
    batches, full = QUESTIONS / BATCH, PATCHES + PROMPT
    cache = BATCH * LLAMA.cache_bytes(full + MAX_ANSWER)
    prefill = card.pass_seconds(BATCH * LLAMA.operations(full), LLAMA.layers)
    steps = card.decode_seconds(LLAMA, MAX_ANSWER, cache)
    memory = LLM_BYTES + CLIP_BYTES + cache + BATCH * pass_bytes(full) + RESERVE
    parts = {"prefill": batches * prefill, "the LLM's steps": batches * steps}
    return Work("train_compensation: 100,000 answers", memory, parts)


def learn_compensation(card: Card) -> Work:
    """Returns stage 3, with GPT-2 in float32.

    It counts beams, four passes over each question in batches of similar length, and one update.
    """
    steps, beams = QUESTIONS / BATCH, BATCH * CANDIDATES
    context, full = QUESTION + PREFIX + MAX_CAPTION, PATCHES + PROMPT + ANSWER
    short = KEPT + PROMPT + HINT + ANSWER
    cache = 2 * beams * GPT2.cache_bytes(context)  # float32
    search = card.decode_seconds(GPT2, MAX_CAPTION, cache, FLOAT32)
    reading = card.pass_seconds(BATCH * LLAMA.operations(full, ANSWER), LLAMA.layers)
    reading += CANDIDATES * card.pass_seconds(BATCH * LLAMA.operations(short, ANSWER), LLAMA.layers)
    learnt = 3 * BATCH * GPT2.operations(QUESTION + PREFIX + CAPTION, CAPTION)
    learnt += BATCH * (2 * MAPPER.operations(PATCHES - KEPT + PREFIX))
    learnt += beams * LONG_CLIP.operations(QUESTION + 2 * CAPTION)
    layers = 3 * (GPT2.layers + SELECTOR.layers) + 2 * MAPPER.layers + LONG_CLIP.layers
    memory = LLM_BYTES + TRAINED * (GPT2.parameters + SELECTOR.parameters)
    memory += BF16 * LONG_CLIP.parameters + FLOAT32 * MAPPER.parameters
    activations = 2 * activation_bytes(GPT2, context, GPT2_GELU)
    memory += cache + BATCH * (pass_bytes(full) + activations)
    parts = {
        "GPT-2's steps": steps * search,
        "the LLM": steps * reading,
        "the update": steps * card.pass_seconds(learnt, layers),
    }
    return Work("train_compensation: 25,000 steps", memory + RESERVE, parts)


def feature_bytes() -> int:
    """Returns the bytes of one image in the cache of the tower's outputs, with its attention."""
    return PATCHES * (WIDTHS * BF16 + FLOAT32)


def pass_bytes(tokens: int) -> int:
    """Returns the bytes alive at once in the LLM's pass without gradient: 3 inner widths."""
    return tokens * 3 * LLAMA.mlp * BF16


def all_work(card: Card) -> list[Work]:
    """Returns the stages in their order; the selector's training takes minutes and is left out."""
    return [
        look(card, "train_caption", IMAGES),
        learn_captions(card),
        look(card, "train_selector", QUESTIONS),
        try_captions(card),
        answer_fully(card),
        learn_compensation(card),
    ]


def table() -> str:
    """Returns the table in Markdown."""
    names = [card.name for card in CARDS]
    heads = ["computed, not measured", "memory", "fits 24 GB", *names, "most of it, on each"]
    rows = []
    for works in zip(*map(all_work, CARDS)):
        name, size = works[0].name, works[0].bytes
        times = [f"{work.seconds / 3600:.1f} h" for work in works]
        most = " / ".join(dict.fromkeys(max(w.parts, key=w.parts.get) for w in works))
        fits = "yes" if size <= SMALL_CARD else "no"
        rows.append([name, f"{size / 1e9:.1f} GB", fits, *times, most])
    totals = [sum(work.seconds for work in all_work(card)) / 3600 for card in CARDS]
    lines = markdown_table(heads, rows, texts=len(heads))
    return "\n".join([*lines, f"| all | | | {' | '.join(f'{t:.0f} h' for t in totals)} | |"])


def main() -> int:
    """Runs the command."""
    print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
