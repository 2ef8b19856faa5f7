"""The flags of the stages that only the mini model needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from llava.arguments import flag, list_flag
from llava.train.arguments import (
    SCHEDULES,
    SeeingArguments,
    TrainArguments,
    model_flag,
)

# What a sequence of train_llava shows of its scene (all visual tokens, some, some and a caption, a
# description of everything instead, or nothing), and how often.
SIGHTS = ("full", "pruned", "compensated", "described", "nothing")
SHARES = (0.45, 0.12, 0.28, 0.1, 0.05)
ONE_IN = (16, 16, 8, 4)


@dataclass
class ClipArguments(TrainArguments):
    """Flags of the stage; the defaults are for the mini model."""

    vision_tower: str = flag("CLIP folder: config.json and tokenizer; gets the weights.")
    data: str = flag("Training data of the mini world: llava.mini.make_data's train.")
    images: int = flag("How many of its images are looked at.", 16000)
    batch_size: int = flag("Images of one optimiser step.", 40)
    learning_rate: float = flag("Highest learning rate.", 1.2e-3)
    warmup_steps: int = flag("Steps in which the learning rate rises from 0.", 100)
    schedule: str = flag("What follows the rise.", "cosine", SCHEDULES)
    max_grad_norm: float = flag("Longer gradients are shortened to this.", 1.0)
    weight_decay: float = flag("AdamW's.", 0.01)
    beta2: float = flag("AdamW's.", 0.98)


@dataclass
class ProjectorArguments(SeeingArguments):
    """Flags of the stage; the defaults are for the mini model."""

    data: str = flag("Training data of the mini world: llava.mini.make_data's train.")
    output: str = flag("LLaVA folder that is written: a copy of --model-path, trained.")
    batch_size: int = flag("Images of one optimiser step.", 32)
    learning_rate: float = flag("Highest learning rate.", 3e-3)
    warmup_steps: int = flag("Steps in which the learning rate rises from 0.", 20)
    schedule: str = flag("What follows the rise.", "cosine", SCHEDULES)


@dataclass
class LlavaArguments(SeeingArguments):
    """Flags of the stage; the defaults are for the mini model."""

    text_selection: Optional[str] = model_flag("text_selection")
    data: str = flag("Training data of the mini world: llava.mini.make_data's train.")
    output: str = flag("LLaVA folder that is written: a copy of --model-path, trained.")
    questions_per_image: int = flag("Questions of one sequence.", 12)
    question_share: float = flag("How much a question's token counts beside an answer's.", 0.5)
    shares: list[float] = list_flag(
        "How often a sequence shows all visual tokens, some, some and a caption, a description in "
        "words instead, nothing.",
        SHARES,
    )
    one_in: list[int] = list_flag(
        "Of a pruned image one in so many tokens stays, drawn evenly; of one in 1 all but one do.",
        ONE_IN,
    )
    false_phrases: float = flag(
        "How often a phrase of a caption is false in one attribute. Captions that are always true "
        "teach that text may be trusted more than sight.",
        0.0,
    )
    exercises: int = flag("Exercises in finding an option's letter, in every sequence.", 2)
    focus: Optional[int] = flag(
        "Show the so many most attended visual tokens in the place of all: the easy part first."
    )
    batch_size: int = flag("Images of one optimiser step.", 4)
    learning_rate: float = flag("Highest learning rate.", 1e-3)
    warmup_steps: int = flag("Steps in which the learning rate rises from 0.", 100)
    schedule: str = flag("What follows the rise.", "cosine", SCHEDULES)
    max_grad_norm: float = flag("Longer gradients are shortened to this.", 1.0)
    weight_decay: float = flag("AdamW's.", 0.01)
    beta2: float = flag("AdamW's.", 0.98)


@dataclass
class LongClipArguments(TrainArguments):
    """Flags of the stage; the defaults are for the mini model."""

    data: str = flag("Training data of the mini world: llava.mini.make_data's train.")
    output: str = flag("Where the text tower goes: a .pt file.")
    batch_size: int = flag("Texts of one optimiser step.", 96)
    learning_rate: float = flag("Highest learning rate.", 1e-3)
    warmup_steps: int = flag("Steps in which the learning rate rises from 0.", 50)
    schedule: str = flag("What follows the rise.", "cosine", SCHEDULES)
    max_grad_norm: float = flag("Longer gradients are shortened to this.", 1.0)


@dataclass
class SceneGraphArguments(SeeingArguments):
    """Flags of the stage; the defaults are for the mini model."""

    data: str = flag("Training data of the mini world: llava.mini.make_data's train.")
    output: str = flag(
        "Where the relation model goes: a .pth file; its names go beside it, as .names.json."
    )
    batch_size: int = flag("Images of one optimiser step.", 32)
    learning_rate: float = flag("Highest learning rate.", 1e-3)
    warmup_steps: int = flag("Steps in which the learning rate rises from 0.", 100)
    schedule: str = flag("What follows the rise.", "cosine", SCHEDULES)
    max_grad_norm: float = flag("Longer gradients are shortened to this.", 1.0)
    weight_decay: float = flag("AdamW's.", 1e-4)
