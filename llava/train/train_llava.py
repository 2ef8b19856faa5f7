"""LLaVA of the mini model: a Llama from nothing, its projector, then both on images.

    python -m llava.train.train_llava --stage language|projector|instruct --model-path ... --output ...

The real model gets its LLaVA-1.5 ready-made. The mini one is made in LLaVA's order, with one stage
in front because there is no Vicuna of this size:

    language    the LLM alone learns to look answers up in descriptions of scenes
    projector   LLaVA's first stage: the LLM is frozen, images learn to be read by it
    instruct    LLaVA's second stage: both, on all kinds of questions

so that it reads pictures, captions, both or neither: also pruned images without a caption, and no
image at all, or else part of what pruning costs would be surprise, not lost information.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from llava.errors import UserError
from llava.eval.command import run_command
from llava.files import read_json
from llava.mini.language import describe
from llava.mini.training_set import read_training_set
from llava.model.builder import ModelArguments, flag, load_vision
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.multimodal_projector.builder import build_vision_projector
from llava.model.parts import fill_llm, read_llava_config, split_llava
from llava.model.weights import fill, read_checkpoint
from llava.train.arguments import TrainArguments
from llava.train.conversations import Conversation
from llava.train.features import ImageFeatures, image_features
from llava.train.packing import PackedBatch, Packer, collate, predict, run_llm
from llava.train.pruning import draw
from llava.train.record import hashes_of, save_weights, write_record
from llava.train.trainer import train

INITIAL_STD = 0.08  # Llama's usual 0.02 stands still for minutes at this width

# What a sequence shows of its scene: all visual tokens, some of them, some of them and a caption,
# a description of everything instead, or nothing; and how often, stage by stage.
SIGHTS = ("full", "pruned", "compensated", "described", "nothing")
STAGES = {
    "language": (0, 0, 0, 0.95, 0.05),
    "projector": (1, 0, 0, 0, 0),
    "instruct": (0.45, 0.15, 0.25, 0.1, 0.05),
}


@dataclass
class LlavaArguments(TrainArguments, ModelArguments):
    """Flags of the stage; the defaults are for the mini model."""

    stage: str = flag("language, projector or instruct.", "instruct")
    data: Optional[str] = flag("Training data of the mini world: llava.mini.make_data's train.")
    features: Optional[str] = flag(
        "Folder that keeps the tower's outputs. Default: features, in the output folder."
    )
    output: Optional[str] = flag("LLaVA folder that is written: a copy of --model-path, trained.")
    questions_per_image: int = flag("Questions of one sequence.", 12)
    question_share: float = flag("How much a question's token counts beside an answer's.", 0.1)
    batch_size: int = flag("Images of one optimiser step.", 16)
    learning_rate: float = flag("Highest learning rate.", 2e-3)
    warmup_steps: int = flag("Steps in which the learning rate rises from 0.", 100)
    schedule: str = flag("What follows: linear, cosine or constant.", "cosine")
    max_grad_norm: float = flag("Longer gradients are shortened to this.", 1.0)
    weight_decay: float = flag("AdamW's.", 0.01)
    beta2: float = flag("AdamW's.", 0.98)


def start_attention(llm: LlamaForCausalLM, seed: int) -> None:
    """Gives a Llama its first weights.

    Its attention starts by looking for what is like itself (keys = queries) and copying it (output =
    transposed values): looking things up is all that it will do, and chance takes long to find that.
    """
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in llm.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, INITIAL_STD)
        for layer in llm.model.layers:
            attention = layer.self_attn
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.o_proj.weight.copy_(attention.v_proj.weight.T)


class LlavaObjective(nn.Module):
    """The LLM answering packed questions.

    Args:
        llm: transformers' Llama.
        projector: tower features to LLM embeddings.
        question_share: how much a question's token counts beside an answer's. Questions ask mostly
            about what is there, so guessing their words is learning to look.
    """

    def __init__(
        self, llm: LlamaForCausalLM, projector: nn.Module, question_share: float = 0.0
    ) -> None:
        super().__init__()
        self.llm = llm
        self.projector = projector
        self.question_share = question_share

    def forward(self, batch: PackedBatch) -> dict[str, Tensor]:
        """Cross-entropy summed over tokens; of the answers' tokens also how many were likeliest."""
        hidden = run_llm(self.llm, self.projector, batch)
        logits, labels = predict(self.llm, hidden, batch.labels)
        answers = F.cross_entropy(logits, labels, reduction="sum")
        words = F.cross_entropy(*predict(self.llm, hidden, batch.asked), reduction="sum")
        right = (logits.argmax(-1) == labels).sum().float()
        return {"loss": answers + self.question_share * words, "answers": answers, "right": right}


class LlavaData:
    """Images with questions, captions and descriptions, packed.

    Args:
        conversations: one an image.
        captions: of each image.
        descriptions: of each image, the objects of its scene as phrases.
        features: of the images; None where no stage looks at them.
        shares: how often each of SIGHTS is shown.
        budgets: numbers of tokens of pruned images, drawn evenly.
        packer: texts to sequences.
        questions_per_image: questions of one sequence.
        width: C of the features.
    """

    def __init__(
        self,
        conversations: Sequence[Conversation],
        captions: Sequence[list[str]],
        descriptions: Sequence[list[str]],
        features: ImageFeatures | None,
        shares: Sequence[float],
        budgets: Sequence[int],
        packer: Packer,
        questions_per_image: int,
        width: int,
    ) -> None:
        self._conversations = conversations
        self._captions = captions
        self._descriptions = descriptions
        self._features = features
        self._shares = torch.tensor(shares, dtype=torch.float)
        self._budgets = budgets
        self._packer = packer
        self._count = questions_per_image
        self._width = width

    def __len__(self) -> int:
        return len(self._conversations)

    def collate(self, indices: list[int], generator: torch.Generator) -> PackedBatch:
        """A batch of sequences."""
        sequences, features = [], []
        for index in indices:
            sight = SIGHTS[int(torch.multinomial(self._shares, 1, generator=generator))]
            pairs = self._conversations[index].pairs
            order = torch.randperm(len(pairs), generator=generator)[: self._count]
            seen = self._look(index, sight, generator)
            hint = self._hint(index, sight, generator)
            chosen = [pairs[i] for i in order.tolist()]
            sequences.append(self._packer.pack(chosen, len(seen), hint))
            features.append(seen)
        return collate(sequences, features)

    def describe(self, indices: list[int]) -> str:
        """The entries of a batch."""
        return ", ".join(self._conversations[index].id for index in indices)

    def _look(self, index: int, sight: str, generator: torch.Generator) -> Tensor:
        """The visual tokens (K, C) that are shown."""
        if sight in ("described", "nothing"):
            return torch.zeros(0, self._width)
        features = torch.from_numpy(self._features.features[index]).float()
        if sight == "full":
            return features
        kept = torch.randperm(len(features), generator=generator)[: draw(self._budgets, generator)]
        return features[kept.sort().values]

    def _hint(self, index: int, sight: str, generator: torch.Generator) -> str | None:
        if sight == "compensated":
            return draw(self._captions[index], generator)
        if sight != "described":
            return None
        phrases = self._descriptions[index]
        order = torch.randperm(len(phrases), generator=generator).tolist()
        return " and ".join(phrases[i] for i in order) + "."


def load_llava(folder: Path, seed: int) -> tuple[LlamaForCausalLM, nn.Module]:
    """Llama and projector of a LLaVA folder in float32, new where it has no weights."""
    config = read_llava_config(read_json(folder / "config.json"), str(folder))
    llm = LlamaForCausalLM(config.llm)
    width = read_json(folder / "config.json")["mm_hidden_size"]
    start_attention(llm, seed)
    projector = build_vision_projector(config.projector_type, width, config.llm.hidden_size)
    if (folder / "model.safetensors").is_file():
        parts = split_llava(read_checkpoint(folder), str(folder))
        cpu = torch.device("cpu")
        fill_llm(llm, parts["llm"], str(folder), torch.float32, lambda name: cpu)
        fill(projector, parts["projector"], str(folder), torch.float32, lambda name: cpu)
    return llm, projector


def save_llava(
    llm: LlamaForCausalLM, projector: nn.Module, source: Path, output: Path
) -> list[Path]:
    """Writes a LLaVA folder in its authors' layout: the small files of another, new weights."""
    output.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.model", "tokenizer_config.json"):
        if source != output:
            shutil.copy(source / name, output / name)
    tensors = dict(llm.state_dict())
    if llm.config.tie_word_embeddings:
        tensors.pop("lm_head.weight")
    tensors |= {f"model.mm_projector.{k}": t for k, t in projector.state_dict().items()}
    save_weights(output / "model.safetensors", tensors, torch.float16)
    return [output / "model.safetensors"]


def train_llava(args: LlavaArguments) -> int:
    """The stage."""
    if None in (args.model_path, args.data, args.output, args.output_dir):
        raise UserError("name --model-path, --data, --output-dir and --output")
    if args.stage not in STAGES:
        raise UserError(f"--stage is {args.stage!r}; the stages are {', '.join(STAGES)}")
    source, folder, run = Path(args.model_path), Path(args.data), Path(args.output_dir)
    texts = read_training_set(folder)
    inputs = {"data": folder / "conversations.json", "config": source / "config.json"}
    llm, projector = load_llava(source, args.seed)
    features = None
    if args.stage != "language":
        seen = load_vision(args)
        inputs["vision_tower"] = seen.folder
        images = [folder / "images" / name for name in texts.images]
        identity = {"vision_tower": hashes_of(seen.folder)}
        cache = Path(args.features or run / "features")
        features = image_features(cache, images, seen.tower, seen.image_processor, identity)
    llm.requires_grad_(args.stage != "projector")
    projector.requires_grad_(args.stage != "language")
    num_patches = 0 if features is None else features.features.shape[1]
    data = LlavaData(
        texts.conversations,
        texts.captions,
        [[describe(thing) for thing in things] for things in texts.scenes],
        features,
        STAGES[args.stage],
        [max(1, num_patches // part) for part in (16, 16, 8, 4)],
        Packer(LlamaTokenizer(source)),
        args.questions_per_image,
        projector[0].in_features,
    )
    chosen = dict(
        llava_stage=args.stage,
        question_share=args.question_share,
        questions_per_image=args.questions_per_image,
    )
    chosen |= dict(shares=STAGES[args.stage], inputs={k: hashes_of(p) for k, p in inputs.items()})
    name = f"train_llava {args.stage}"
    train(name, LlavaObjective(llm, projector, args.question_share), data, args, chosen)
    output = Path(args.output)
    files = save_llava(llm, projector, source, output)
    write_record(output, name, chosen, files, inputs, run)
    return 0


def main(argv: list[str] | None = None) -> int:
    """The command."""
    description = __doc__.split("\n")[0]
    return run_command(LlavaArguments, train_llava, "llava.train.train_llava", description, argv)


if __name__ == "__main__":
    sys.exit(main())
