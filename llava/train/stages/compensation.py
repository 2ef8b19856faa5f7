"""Caption model and selector together, taught by the LLM itself (arXiv 2508.01236).

No label is used. The frozen LLM answers each question with all visual tokens: its distribution Q
over the answer's tokens is the target. Three captions are generated from the dropped tokens, and
with each of them the LLM reads the kept tokens: P_1 to P_3.

    score_i  = KL(Q || P_i)                   how much of the answer is lost with caption i
    margin_i = mean(score) - score_i          how much better it is than the others
    best     = the largest margin             the label of this step
    loss     = w (cross-entropy of GPT-2 on the best caption + cross-entropy of the selector)
    w        = 4 x the mean of the best margins over the batch

If the selector has learnt silence, it is a fourth candidate; where it is the best, GPT-2 has
nothing to learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from llava.budgets import AskedBudget
from llava.errors import UserError
from llava.model.builder import load_from_arguments
from llava.model.compensation.builder import load_caption_model, load_long_clip, load_selector
from llava.model.loading.locate import locate
from llava.model.loading.parts import locate_part
from llava.model.loading.placement import Placement, placement
from llava.model.sample import Sample
from llava.train.arguments import SHORT, model_arguments
from llava.train.batches import TensorBatch
from llava.train.closing import command_line, finish
from llava.train.provenance import hashes_of
from llava.train.resumable import Work, resumable
from llava.train.samples import (
    AskedImages,
    Look,
    ShortQuestion,
    llm_fingerprints,
    load_asked_images,
    load_frozen_llm,
    read_short_questions,
)
from llava.train.stage import Stage, check_given, open_stage
from llava.train.stages.arguments import KINDS, MARGINS, CompensationArguments
from llava.train.stages.compensation_objective import CompensationObjective
from llava.train.trainer import train

LONGEST_ANSWER = 16  # tokens of the LLM's own answers


@dataclass(frozen=True)
class CompensationBatch(TensorBatch):
    """B questions.

    Attributes:
        samples: the questions.
        looks: their images.
        answers: the LLM's answers with all tokens.
        seeds: of the candidates.
    """

    samples: list[ShortQuestion]
    looks: list[Look]
    answers: list[str]
    seeds: list[int]


class CompensationData:
    """Questions with the LLM's own answers.

    Args:
        asked: questions and images.
        answers: one for each question.
        budget: of the visual tokens that the LLM reads, or several to draw from.
        seed: of tokens and candidates.
    """

    def __init__(
        self,
        asked: AskedImages,
        answers: Sequence[str],
        budget: AskedBudget | Sequence[AskedBudget],
        seed: int,
    ) -> None:
        self._asked = asked
        self._answers = answers
        self._budget = budget
        self._seed = seed
        # Only the end of an empty answer can be compared.
        self._numbers = [number for number, answer in enumerate(answers) if answer]

    def __len__(self) -> int:
        return len(self._numbers)

    def collate(self, indices: list[int], generator: torch.Generator) -> CompensationBatch:
        """Returns a batch of questions."""
        numbers = [self._numbers[index] for index in indices]
        seeds = torch.randint(2**62, (len(numbers),), generator=generator).tolist()
        return CompensationBatch(
            samples=[self._asked.samples[number] for number in numbers],
            looks=[self._asked.look(n, self._budget, seed) for n, seed in zip(numbers, seeds)],
            answers=[self._answers[number] for number in numbers],
            seeds=seeds,
        )

    def describe(self, indices: list[int]) -> str:
        """Returns the names of a batch's questions."""
        samples = [self._asked.samples[self._numbers[index]] for index in indices]
        return "; ".join(f"{sample.image}: {sample.tower_question}" for sample in samples)


def begin_answering(args: CompensationArguments, asked: AskedImages) -> Work:
    """Loads the model; the returned work answers questions with all visual tokens."""
    model = load_from_arguments(model_arguments(args))

    def work(numbers: list[int]) -> list[dict]:
        samples = []
        for number in numbers:
            question = asked.samples[number]
            image = asked.features.image(asked.places[question.image])
            samples.append(
                Sample(
                    image=image,
                    question=question.question,
                    tower_question=question.tower_question,
                    visual_token_num=len(image.features),
                    max_new_tokens=LONGEST_ANSWER,
                )
            )
        return [{"answer": answer.text} for answer in model.answer(samples)]

    return work


def train_compensation(args: CompensationArguments) -> int:
    """Runs the stage."""
    _check(args)
    with open_stage("train_compensation", args) as stage:
        return _train(stage, args)


def _train(stage: Stage, args: CompensationArguments) -> int:
    run, team, which = Path(args.output_dir), stage.team, model_arguments(args)
    samples = read_short_questions(Path(args.data), args.samples, args.seed, args.answer_words)
    cache = Path(args.features or run / "features")
    asked = load_asked_images(which, team, samples, Path(args.images), cache, args.kept)
    inputs = {p: locate_part(which, p) for p in ("gpt2", "caption_model", "longclip", "selector")}
    inputs |= {"model": locate(args.model_path) / "config.json", "data": Path(args.data)}
    inputs["vision_tower"] = asked.vision_tower
    hashes = {name: hashes_of(path) for name, path in inputs.items()}
    weights = llm_fingerprints(which)
    # With all tokens nothing is selected.
    seen = {name: value for name, value in asked.settings.items() if name != "text_selection"}
    read = {name: hashes[name] for name in ("vision_tower", "model")}
    asks = dict(seed=args.seed, data=hashes["data"], weights=weights, inputs=read)
    if args.answer_words != SHORT:  # as in folders that are older than this flag
        asks |= dict(answer_words=args.answer_words)
    answers = team.first_then_all(
        lambda: resumable(
            run / "answers.jsonl",
            len(samples),
            args.answer_batch_size,
            lambda: begin_answering(args, asked),
            "full-token answers",
            seen | asks,
            args,
        )
    )
    objective = _objective(args, inputs, asked.features.embed_dim)
    data = CompensationData(asked, [a["answer"] for a in answers], args.kept, args.seed)
    if len(data) == 0:
        raise UserError(
            "the LLM answers every question with nothing, and nothing can be learnt from that: "
            "check --model-path, or train the LLM longer"
        )
    chosen = asked.settings | dict(inputs=hashes, weights=weights, samples_drawn=len(samples))
    groups = [("selector.", args.selector_learning_rate)]
    train(stage, objective, data, chosen, groups)
    trained = {
        Path(args.caption_output): objective.caption_model.state_dict(),
        Path(args.selector_output): objective.selector.state_dict(),
    }
    parts = {"caption_model": args.caption_output, "selector": args.selector_output}
    use = command_line("llava.serve.cli", model_path=args.model_path, **parts)
    return finish(stage, chosen, inputs, use, trained)


def _check(args: CompensationArguments) -> None:
    check_given(args, "data", "images", "output_dir", "caption_output", "selector_output")
    if Path(args.caption_output).parent != Path(args.selector_output).parent:
        raise UserError("--caption-output and --selector-output must lie in one folder")
    for name, known in (("candidates", KINDS), ("margins", MARGINS)):
        if getattr(args, name) not in known:
            raise UserError(f"--{name} is {getattr(args, name)!r}; choose {' or '.join(known)}")


def _objective(
    args: CompensationArguments, files: dict[str, Path], width: int
) -> CompensationObjective:
    """Builds all parts, with the trained ones in float32."""
    which = model_arguments(args)
    place = placement(which)
    full = Placement(place.device, torch.float32)
    caption_model, tokenizer = load_caption_model(
        files["gpt2"], files["caption_model"], width, full
    )
    long_clip = load_long_clip(files["longclip"], place)
    selector = load_selector(files["selector"], long_clip, full)
    llm = load_frozen_llm(which)
    return CompensationObjective(
        caption_model,
        selector,
        long_clip,
        llm,
        tokenizer,
        args.candidates,
        args.margins,
        args.answer_batch_size,
    )
