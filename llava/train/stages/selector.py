"""The selector, on questions where it matters which caption the LLM reads.

For single questions with short answers, three captions are generated (nucleus, top-k, greedy), and
the frozen LLM reads the kept tokens with each of them. Questions that some captions answer and
others do not are kept ("mined"), and the selector learns to prefer the captions that helped (arXiv
2508.01236).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from llava.errors import UserError
from llava.model.compensation.builder import load_caption_model, load_long_clip
from llava.model.compensation.long_clip import LongClipText
from llava.model.compensation.selector import Selector, selector_text
from llava.model.loading.locate import locate
from llava.model.loading.parts import locate_part
from llava.model.loading.placement import placement
from llava.train.arguments import model_arguments
from llava.train.batches import TensorBatch, stream_seed
from llava.train.candidates import write_candidates
from llava.train.closing import command_line, finish
from llava.train.packing import Packer, Reading, answer_log_probs, is_likeliest
from llava.train.provenance import hashes_of
from llava.train.resumable import Work, resumable
from llava.train.samples import (
    AskedImages,
    llm_fingerprints,
    load_asked_images,
    load_frozen_llm,
    read_short_questions,
)
from llava.train.stage import check_given, open_stage
from llava.train.stages.arguments import SelectorArguments
from llava.train.trainer import train

LAYERS = 4  # of the published selector


def begin_trying(args: SelectorArguments, asked: AskedImages) -> Work:
    """Loads LLM and caption model; the returned work tries questions."""
    which = model_arguments(args)
    place = placement(which)
    llm = load_frozen_llm(which)
    packer = Packer(llm.tokenizer)
    width = asked.features.embed_dim
    files = locate_part(which, "gpt2"), locate_part(which, "caption_model")
    caption_model, tokenizer = load_caption_model(*files, width, place)
    caption_model.eval()

    def work(numbers: list[int]) -> list[dict]:
        samples = [asked.samples[number] for number in numbers]
        seeds = [stream_seed(args.seed, "mining", number) for number in numbers]
        looks = [asked.look(n, args.kept, seed) for n, seed in zip(numbers, seeds)]
        dropped = [look.dropped.to(place.device, place.dtype) for look in looks]
        questions = [sample.tower_question for sample in samples]
        found = write_candidates(caption_model, tokenizer, dropped, questions, "sampled", seeds)
        told = [[*candidates.captions, *[None] * args.silence] for candidates in found]
        readings = [
            Reading(look.kept, text, sample.question, sample.answer)
            for sample, look, texts in zip(samples, looks, told)
            for text in texts
        ]
        likely = iter(answer_log_probs(llm, packer, readings, args.mining_batch_size))
        return [
            {
                "question": sample.tower_question,
                "captions": candidates.captions,
                "right": [
                    is_likeliest(next(likely), packer.answer_ids(sample.answer)) for _ in texts
                ],
            }
            | ({"kept_share": look.kept_share} if args.silence else {})
            for sample, look, candidates, texts in zip(samples, looks, found, told)
        ]

    return work


def is_mixed(tried: dict) -> bool:
    """Returns whether it mattered which caption the LLM read."""
    return 0 < sum(tried["right"]) < len(tried["right"])


@dataclass(frozen=True)
class ChoiceBatch(TensorBatch):
    """B questions with candidates.

    Attributes:
        features: (B, W, P), LongCLIP's features of the candidates.
        right: (B, W) 1.0 where the LLM answered correctly; (B, W + 1) if silence was tried too.
        kept_shares: (B,) K / N; None where silence was not tried.
    """

    features: Tensor
    right: Tensor
    kept_shares: Tensor | None = None


class SelectorObjective(nn.Module):
    """The objective of the stage: the selector chooses a caption that helps.

    Args:
        selector: the model that is trained.
    """

    def __init__(self, selector: Selector) -> None:
        super().__init__()
        self.selector = selector

    def forward(self, batch: ChoiceBatch) -> dict[str, Tensor]:
        """Sums the cross-entropy against a uniform choice among the right candidates.

        "accuracy" counts the questions whose first choice is right, "chance" those of a random one.
        """
        shares = () if batch.kept_shares is None else (batch.kept_shares,)
        log_scores = self.selector(batch.features, *shares).float().log_softmax(dim=-1)
        target = batch.right / batch.right.sum(dim=1, keepdim=True)
        chosen = log_scores.argmax(dim=-1, keepdim=True)
        return {
            "loss": -(target * log_scores).sum(),
            "accuracy": batch.right.gather(1, chosen).sum(),
            "chance": batch.right.mean(dim=1).sum(),
        }


class SelectorData:
    """Mined questions, read once by LongCLIP.

    Args:
        mined: records of the questions that are mixed.
        long_clip: frozen.
    """

    def __init__(self, mined: Sequence[dict], long_clip: LongClipText) -> None:
        self._mined = mined
        self._right = torch.tensor([tried["right"] for tried in mined], dtype=torch.float)
        has_silence = self._right.shape[1] > len(mined[0]["captions"])
        self._shares = torch.tensor([t["kept_share"] for t in mined]) if has_silence else None
        texts = [selector_text(t["question"], text) for t in mined for text in t["captions"]]
        self._features = read_texts(long_clip, texts).unflatten(0, (len(mined), -1))

    def __len__(self) -> int:
        return len(self._mined)

    def collate(self, indices: list[int], generator: torch.Generator) -> ChoiceBatch:
        """Returns a batch of questions."""
        shares = None if self._shares is None else self._shares[indices]
        return ChoiceBatch(self._features[indices], self._right[indices], shares)

    def describe(self, indices: list[int]) -> str:
        """Returns the names of a batch's questions."""
        return "; ".join(self._mined[index]["question"] for index in indices)


@torch.no_grad()
def read_texts(long_clip: LongClipText, texts: Sequence[str], batch_size: int = 256) -> Tensor:
    """Returns LongCLIP's features (len(texts), P) float32 on the CPU."""
    starts = range(0, len(texts), batch_size)
    return torch.cat([long_clip(texts[i : i + batch_size]).float().cpu() for i in starts])


def train_selector(args: SelectorArguments) -> int:
    """Runs the stage."""
    check_given(args, "data", "images", "output_dir", "output")
    with open_stage("train_selector", args) as stage:
        run, team, which = Path(args.output_dir), stage.team, model_arguments(args)
        samples = read_short_questions(Path(args.data), args.samples, args.seed)
        cache = Path(args.features or run / "features")
        asked = load_asked_images(which, team, samples, Path(args.images), cache, args.kept)
        inputs = {part: locate_part(which, part) for part in ("gpt2", "caption_model", "longclip")}
        inputs |= {"model": locate(args.model_path) / "config.json", "data": Path(args.data)}
        inputs["vision_tower"] = asked.vision_tower
        hashes = {name: hashes_of(path) for name, path in inputs.items()}
        chosen = asked.settings | dict(inputs=hashes, weights=llm_fingerprints(which))
        tries = {"seed": args.seed, "budget": args.kept} | (
            {"silence": True} if args.silence else {}
        )
        tried = team.first_then_all(
            lambda: resumable(
                run / "tried.jsonl",
                len(samples),
                args.mining_batch_size,
                lambda: begin_trying(args, asked),
                "questions tried",
                chosen | tries,
                args,
            )
        )
        mined = [record for record in tried if is_mixed(record)]
        if team.is_first:
            print(f"{len(mined)} of {len(tried)} questions are answered with some captions only")
        if not mined:
            raise UserError(
                "no question was mined: the captions are all alike, or the LLM does not read them; "
                "try more --samples, or train the caption model longer"
            )
        torch.manual_seed(args.seed)
        long_clip = load_long_clip(inputs["longclip"], placement(which)).requires_grad_(False)
        selector = Selector(long_clip.embed_dim, LAYERS, args.silence)
        data = SelectorData(mined, long_clip)
        chosen |= dict(tried=len(samples))
        train(stage, SelectorObjective(selector), data, chosen)
        parts = {name: getattr(args, name) for name in ("model_path", "caption_model")}
        use = command_line("llava.serve.cli", **parts, selector=Path(args.output))
        weights = {Path(args.output): selector.state_dict()}
        return finish(stage, chosen, inputs, use, weights)
