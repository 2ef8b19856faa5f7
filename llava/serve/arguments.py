"""The flags that the commands of this folder share."""

from __future__ import annotations

from dataclasses import dataclass

from llava.arguments import ModelArguments, path_flag


@dataclass
class TryArguments(ModelArguments):
    """Flags of every command to try the method with: a model is there without being named."""

    model_path: str = path_flag(
        "LLaVA-1.5, LLaVA-NeXT or Qwen2.5-VL: a folder, or a name on the hub.",
        "checkpoints/accm-mini",
    )
