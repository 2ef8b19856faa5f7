"""The flags of each stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from llava.arguments import flag, list_flag
from llava.budgets import AskedBudget
from llava.train.arguments import (
    SHORT,
    AskingArguments,
    SeeingArguments,
    model_flag,
)

# The candidate captions of train_compensation. beam: ACCM's own candidates when it answers;
# sampled: nucleus, top-k and greedy, which differ more from each other.
KINDS = ("beam", "sampled")
MARGINS = ("batch", "sample")


@dataclass
class CaptionArguments(SeeingArguments):
    """Flags of the stage; the defaults are for the real models."""

    text_selection: Optional[str] = model_flag("text_selection")
    gpt2: Optional[str] = model_flag("gpt2")
    captions: str = flag("Captions in COCO's format, such as captions_train2017.json.")
    images: str = flag("Folder of the images that the captions name.")
    questions: Optional[str] = flag(
        "LLaVA's instructions, from which questions are drawn. Default: one general question."
    )
    output: str = flag("Where the caption model goes: a .pt file.")
    budgets: list[AskedBudget] = list_flag(
        "Numbers of kept tokens, or shares of an image's tokens (1/9, 11%), drawn evenly.",
        (18, 36, 72, 144, 288),
    )
    start_from: Optional[str] = flag(
        "Caption model (.pt) to go on from. Default: GPT-2 with a new mapper."
    )
    prefix_length: int = flag("Positions of the visual prefix.", 20)
    mapper_layers: int = flag("Transformer layers of the mapper.", 4)
    batch_size: int = flag("Captions of one optimiser step.", 64)
    learning_rate: float = flag("Highest learning rate.", 2e-5)
    warmup_steps: int = flag("Steps in which the learning rate rises from 0.", 5000)


@dataclass
class SelectorArguments(AskingArguments):
    """Flags of the stage; the defaults are for the real models."""

    samples: int = flag("Questions that are tried; the mined ones are fewer.", 100_000)
    silence: bool = flag(
        "Let the selector learn when no caption is better than any; the published one cannot.",
        False,
    )
    mining_batch_size: int = flag("Questions that are tried at once.", 32)
    output: str = flag("Where the selector goes: a .pt file.")
    batch_size: int = flag("Questions of one optimiser step.", 32)
    learning_rate: float = flag("Highest learning rate.", 2e-5)
    warmup_steps: int = flag("Steps in which the learning rate rises from 0.", 1000)


@dataclass
class CompensationArguments(AskingArguments):
    """Flags of the stage; the defaults are for the real models."""

    selector: Optional[str] = model_flag("selector")
    compile: bool = model_flag("compile")
    data: str = flag("Questions in LLaVA's instruction format; answers are not looked at.")
    samples: int = flag("Questions to learn from.", 100_000)
    answer_words: int = flag(
        "Only questions whose answer in the data has at most so many words are learnt from. The "
        "selector knows no others: where it may choose silence, it does so for them.",
        SHORT,
    )
    answer_batch_size: int = flag("Questions that the LLM answers, or reads, at once.", 16)
    candidates: str = flag(
        "beam (the method), or sampled, whose captions differ more.", "beam", KINDS
    )
    margins: str = flag(
        "What weighs a sample: the mean margin of its batch (as published), or its own.",
        "batch",
        MARGINS,
    )
    caption_output: str = flag("Where the caption model goes: a .pt file.")
    selector_output: str = flag("Where the selector goes: a .pt file.")
    batch_size: int = flag("Questions of one optimiser step.", 4)
    learning_rate: float = flag("Highest learning rate of GPT-2.", 1e-6)
    selector_learning_rate: float = flag("Highest learning rate of the selector.", 2e-5)
    warmup_steps: int = flag("Steps in which the learning rates rise from 0.", 1000)
