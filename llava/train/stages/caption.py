"""Caption model and mapper on image-caption pairs: what pruning drops, in words.

The mapper reads the tokens that ACCM would drop for a question at one of the budgets; GPT-2 reads
[question ; prefix] and learns to continue with a caption of the image, up to its first stop.
Questions come from other data (LLaVA's instructions) and are independent of the caption: here the
model learns to describe the tokens, and to read a question before them; train_compensation teaches
it to use the question.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

from llava.errors import UserError
from llava.files import read_json
from llava.mm_utils import pad_left
from llava.model.compensation.builder import load_caption_model
from llava.model.compensation.caption_model import CaptionModel
from llava.model.compensation.caption_writer import MAX_CAPTION_LENGTH, STOP_TEXT
from llava.model.loading.bpe import check_vocabulary, read_bpe
from llava.model.loading.parts import locate_part
from llava.model.loading.placement import Placement
from llava.model.loading.weights import has_weights
from llava.train.arguments import model_arguments
from llava.train.batches import TensorBatch
from llava.train.captions import CaptionPairs, read_caption_pairs, read_questions
from llava.train.closing import command_line, finish
from llava.train.features import ImageFeatures
from llava.train.native import NativeFeatures, NativePruner, reads_clip
from llava.train.provenance import hashes_of
from llava.train.pruning import Pruner, described, draw
from llava.train.stage import check_given, open_stage
from llava.train.stages.arguments import CaptionArguments
from llava.train.stages.caption_inputs import see_by_clip, see_natively
from llava.train.trainer import train

IGNORED = -100  # label of a position that is not to be predicted
# The sizes of a GPT-2 and a mapper without published weights, at the width of the mini model.
INITIAL_STD = 0.08
POSITION_STD = 0.03
PREFIX_STD = 0.3


@dataclass(frozen=True)
class CaptionBatch(TensorBatch):
    """B captions, padded on the left.

    Attributes:
        dropped: (B, M, P) float32, the dropped tokens in index order.
        dropped_mask: (B, M), 0 for padding.
        ids: (B, L) int64: question, prefix_length times 0, caption.
        mask: (B, L), 0 for padding.
        prefix: (B, L) bool, True at the places of the visual prefix.
        labels: (B, L) int64, the next token where it is the caption's, else IGNORED.
    """

    dropped: Tensor
    dropped_mask: Tensor
    ids: Tensor
    mask: Tensor
    prefix: Tensor
    labels: Tensor

    @property
    def weight(self) -> float:
        """The number of tokens to be predicted."""
        return int((self.labels != IGNORED).sum())


def caption_batch(
    dropped: Sequence[Tensor],
    questions: Sequence[list[int]],
    captions: Sequence[list[int]],
    prefix_length: int,
) -> CaptionBatch:
    """Collates samples into a batch.

    Args:
        dropped: B tensors (M_b, P).
        questions: GPT-2 ids of each question.
        captions: GPT-2 ids of each caption, its stop token included.
        prefix_length: positions of the visual prefix.
    """
    rows = []
    for question, text in zip(questions, captions):
        before = len(question) + prefix_length
        ids = torch.tensor(question + [0] * prefix_length + text)
        prefix = torch.zeros(len(ids), dtype=torch.long)
        prefix[len(question) : before] = 1
        labels = torch.tensor([IGNORED] * (before - 1) + text + [IGNORED])
        rows.append(torch.stack([ids, prefix, labels - IGNORED], dim=-1))  # padding: 0 throughout
    padded, mask = pad_left(rows)
    tokens, dropped_mask = pad_left(list(dropped))
    return CaptionBatch(
        dropped=tokens,
        dropped_mask=dropped_mask,
        ids=padded[..., 0],
        mask=mask,
        prefix=padded[..., 1].bool(),
        labels=padded[..., 2] + IGNORED,
    )


def caption_loss(
    model: CaptionModel, batch: CaptionBatch, prefix: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the cross-entropy of the captions' tokens.

    Args:
        model: only its GPT-2 is run, not its mapper.
        batch: B captions.
        prefix: (B, prefix_length, D).

    Returns:
        (tokens,) losses, (tokens,) row in the batch of each, (tokens,) bool, whether it was the
        likeliest.
    """
    embeds = model.gpt.transformer.wte(batch.ids)
    embeds = embeds.masked_scatter(batch.prefix.unsqueeze(-1), prefix.to(embeds.dtype))
    hidden = model.gpt.transformer(
        inputs_embeds=embeds,
        attention_mask=batch.mask,
        position_ids=(batch.mask.cumsum(dim=-1) - 1).clamp(min=0),
        use_cache=False,
    ).last_hidden_state
    asked = batch.labels != IGNORED
    logits = model.gpt.lm_head(hidden[asked]).float()
    labels = batch.labels[asked]
    losses = F.cross_entropy(logits, labels, reduction="none")
    return losses, asked.nonzero()[:, 0], logits.argmax(-1) == labels


class CaptionObjective(nn.Module):
    """The objective of the stage: captions from dropped tokens.

    Args:
        model: GPT-2 and its mapper.
    """

    def __init__(self, model: CaptionModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: CaptionBatch) -> dict[str, Tensor]:
        """Sums the cross-entropy over tokens, and counts those that were the likeliest."""
        prefix = self.model.prefix(batch.dropped, batch.dropped_mask)
        losses, _, right = caption_loss(self.model, batch, prefix)
        return {"loss": losses.sum(), "accuracy": right.sum().float()}


@dataclass(eq=False)
class CaptionData:
    """Captions with the tokens that pruning drops.

    Attributes:
        pairs: images and captions.
        features: of the images, in the same order.
        questions: drawn for each caption.
        pruner: chooses tokens for them.
        tokenizer: GPT-2's.
        args: the budgets, drawn uniformly, and the length of the visual prefix.
    """

    pairs: CaptionPairs
    features: ImageFeatures | NativeFeatures
    questions: Sequence[str]
    pruner: Pruner | NativePruner
    tokenizer: GPT2Tokenizer
    args: CaptionArguments

    def __post_init__(self) -> None:
        counts = [len(captions) for captions in self.pairs.captions]
        self._places = [(i, j) for i, count in enumerate(counts) for j in range(count)]
        encode = partial(self.tokenizer.encode, add_special_tokens=False)
        self._question_ids = {question: encode(question) for question in self.questions}

    def __len__(self) -> int:
        return len(self._places)

    def collate(self, indices: list[int], generator: torch.Generator) -> CaptionBatch:
        """Returns a batch of captions."""
        dropped, questions, captions = [], [], []
        for index in indices:
            number, which = self._places[index]
            question = draw(self.questions, generator)
            budget = draw(self.args.budgets, generator)
            image = self.features.image(number)
            pruned = self.pruner.select(image, question, budget, generator)
            dropped.append(described(image, pruned))
            questions.append(self._question_ids[question])
            captions.append(caption_ids(self.pairs.captions[number][which], self.tokenizer))
        return caption_batch(dropped, questions, captions, self.args.prefix_length)

    def describe(self, indices: list[int]) -> str:
        """Returns the names of a batch's images."""
        return ", ".join(self.pairs.images[self._places[index][0]].name for index in indices)


def caption_ids(text: str, tokenizer: GPT2Tokenizer) -> list[int]:
    """Returns GPT-2 ids of a caption as the beams write it: up to and with its first stop."""
    sentence = text.split(STOP_TEXT, 1)[0].strip()
    ids = tokenizer.encode(sentence, add_special_tokens=False)[: MAX_CAPTION_LENGTH - 1]
    return ids + tokenizer.encode(STOP_TEXT)[:1]


def starting_caption_model(gpt2: Path, embed_dim: int, args: CaptionArguments) -> CaptionModel:
    """Returns the caption model to go on from, or a new one.

    Raises:
        UserError: the file is damaged or of other sizes.
    """
    if args.start_from is None:
        return new_caption_model(gpt2, embed_dim, args)
    full = Placement(torch.device("cpu"), torch.float32)
    model, _ = load_caption_model(gpt2, Path(args.start_from), embed_dim, full)
    mapper = model.clip_project
    prefix, layers = len(mapper.prefix_const), len(mapper.transformer.layers)
    if (prefix, layers) != (args.prefix_length, args.mapper_layers):
        raise UserError(
            f"{args.start_from} has a prefix of {prefix} and a mapper of {layers} layers: say "
            f"--prefix-length {prefix} --mapper-layers {layers}"
        )
    return model


def new_caption_model(gpt2: Path, embed_dim: int, args: CaptionArguments) -> CaptionModel:
    """Returns GPT-2, with published weights or new where there are none, and a new mapper."""
    torch.manual_seed(args.seed)
    if has_weights(gpt2):
        gpt = GPT2LMHeadModel.from_pretrained(gpt2, dtype=torch.float32)
    else:
        print(f"{gpt2} has no weights: GPT-2 starts from nothing", file=sys.stderr)
        gpt = GPT2LMHeadModel(GPT2Config(**read_json(gpt2 / "config.json")))
    model = CaptionModel(gpt, embed_dim, args.prefix_length, args.mapper_layers)
    with torch.no_grad():
        model.clip_project.prefix_const.normal_()
        if not has_weights(gpt2):
            _start_copying(model)
    return model


def _start_copying(model: CaptionModel) -> None:
    """Initialises attention in GPT-2 and mapper: it copies tokens like the current one.

    It finds them by keys = queries, and copies by output = transposed values. A GPT-2 from
    random weights otherwise learns to name what is there, and for a long time not where.
    """
    for name, parameter in model.gpt.named_parameters():
        if parameter.dim() == 2:
            parameter.normal_(0, POSITION_STD if "wpe" in name else INITIAL_STD)
    for block in model.gpt.transformer.h:
        weight = block.attn.c_attn.weight  # (D, 3 D), transposed as GPT-2 has it
        width = len(weight)
        weight[:, width : 2 * width] = weight[:, :width]
        block.attn.c_proj.weight.copy_(weight[:, 2 * width :].T)
    for layer in model.clip_project.transformer.layers:
        queries, both = layer.attn.to_queries.weight, layer.attn.to_keys_values.weight
        queries.normal_(0, INITIAL_STD)
        both.normal_(0, INITIAL_STD)
        both[: len(queries)] = queries
        layer.attn.project.weight.copy_(both[len(queries) :].T)
        layer.attn.project.bias.zero_()
    model.clip_project.prefix_const.normal_(0, PREFIX_STD)


def train_caption(args: CaptionArguments) -> int:
    """Runs the stage."""
    check_given(args, "captions", "images", "output_dir", "output")
    with open_stage("train_caption", args) as stage:
        which = model_arguments(args)
        pairs = read_caption_pairs(Path(args.captions), Path(args.images))
        questions = read_questions(Path(args.questions) if args.questions else None)
        gpt2 = locate_part(which, "gpt2", weights=True)
        tokenizer = read_bpe(GPT2Tokenizer, gpt2)
        has_clip = reads_clip(which)
        see = see_by_clip if has_clip else see_natively
        features, pruner, folder, chosen = see(args, stage, pairs.images, questions)
        model = starting_caption_model(gpt2, features.embed_dim, args)
        check_vocabulary(tokenizer, model.gpt.config.vocab_size, gpt2)
        data = CaptionData(pairs, features, questions, pruner, tokenizer, args)
        inputs = {"captions": Path(args.captions), "vision_tower": folder, "gpt2": gpt2}
        given = {"questions": args.questions, "start_from": args.start_from}
        inputs |= {name: Path(path) for name, path in given.items() if path}
        hashes = dict.fromkeys(given) | {name: hashes_of(path) for name, path in inputs.items()}
        chosen = chosen | {"inputs": hashes}
        train(stage, CaptionObjective(model), data, chosen)
        parts = {"model_path": args.model_path, "caption_model": Path(args.output)}
        use = command_line("llava.train.train_selector", **parts)
        if not has_clip:  # the next stage reads CLIP
            use = command_line("llava.eval.run_llava", **parts, compensation="caption")
        return finish(stage, chosen, inputs, use, {Path(args.output): model.state_dict()})
