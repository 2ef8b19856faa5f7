"""Answers each question in several ways from one encoding and one set of captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from llava.eval.engine import Request, units_by_length
from llava.method import Method
from llava.mini.measuring.questions import Asked, false_caption
from llava.mm_utils import load_image
from llava.model.compensation.caption_writer import NUM_CANDIDATES
from llava.model.compensation.compensator import Compensation
from llava.model.language_model.llava_llama import Prompt
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Encoded, Sample
from llava.model.token_pruning.accm import AccmOptions
from llava.model.token_pruning.pruner import Pruned, Pruning, prune
from llava.model.token_pruning.registry import ACCM

FULL, NOTHING, PRUNED = "full", "nothing", "pruned"
TRUE, FALSE = "true caption", "false caption"
CANDIDATES = tuple(f"candidate {number}" for number in range(1, NUM_CANDIDATES + 1))
CONDITIONS = (FULL, NOTHING, PRUNED, *CANDIDATES, TRUE)  # FALSE is asked for where it is wanted
RULES = ("farthest", "nearest")


@dataclass(frozen=True)
class Kept:
    """The patches that a rule keeps of one image.

    Attributes:
        reasons: the kept patches, and why; see Pruned.reasons.
        picked: the patches that the question picks, those included that are cut off where the
            question and the attention want more than the budget.
    """

    reasons: dict[int, str]
    picked: list[int]


@dataclass(frozen=True)
class Measured:
    """The model's results for one question.

    Attributes:
        asked: the question.
        texts: its answers, by condition.
        captions: the candidates, best beam first, followed by silence where it may be chosen.
        chosen: the index of the selector's choice.
        kept: by RULES.
    """

    asked: Asked
    texts: dict[str, str]
    captions: list[str]
    chosen: int
    kept: dict[str, Kept]


def ask_all(
    model: LlavaAccm,
    asked: Sequence[Asked],
    method: Method,
    batch_size: int,
    conditions: Sequence[str] = CONDITIONS,
) -> Iterator[Measured]:
    """Asks the questions of one benchmark, in batches of similar length.

    Args:
        model: with a compensator.
        asked: the questions.
        method: how the pruned conditions are asked.
        batch_size: questions per batch.
        conditions: the LLM's inputs, in sequence: some of CONDITIONS, and FALSE.

    Raises:
        UserError: a question cannot be asked.
    """
    by_key = {one.question.key: one for one in asked}
    requests = [
        Request(
            id=one.question.key,
            image=one.question.image,
            question=one.question.prompt,
            tower_question=one.question.tower_question,
            max_new_tokens=one.question.max_new_tokens,
            **vars(method),
        )
        for one in asked
    ]
    for unit in units_by_length(requests, batch_size):
        for batch in unit:
            asked_now = [by_key[str(request.id)] for request in batch]
            yield from _ask_batch(model, batch, asked_now, conditions)


@torch.inference_mode()
def _ask_batch(
    model: LlavaAccm,
    batch: Sequence[Request],
    asked: Sequence[Asked],
    conditions: Sequence[str],
) -> Iterator[Measured]:
    images = list(dict.fromkeys(request.image for request in batch))
    pixels = model.preprocess([load_image(image) for image in images])
    encodings = dict(zip(images, model.encode_images(pixels)))
    samples = [request.sample(encodings[request.image]) for request in batch]
    for sample in samples:
        model.check(sample)
    encoded = model.encode(samples)
    pruned = model.prune(encoded, samples)
    # Every sample drops tokens, so that each gets captions.
    found = model.compensate(encoded, pruned, samples)
    written = [one for one in found if isinstance(one, Compensation)]
    reads = _inputs(model, encoded, pruned, written, samples, asked)
    decode = model.language_model.tokenizer.decode
    texts = {
        condition: [decode(o.out_ids).strip() for o in model.generate(reads[condition](), samples)]
        for condition in conditions
    }
    kept = [_kept(model, *both) for both in zip(encoded, samples)]
    for place, one in enumerate(asked):
        answers = {condition: texts[condition][place] for condition in conditions}
        caption = written[place]
        yield Measured(one, answers, caption.captions, caption.chosen_index, kept[place])


def _inputs(
    model: LlavaAccm,
    encoded: list[Encoded],
    pruned: Sequence[Pruned | None],
    written: list[Compensation],
    samples: list[Sample],
    asked: Sequence[Asked],
) -> dict[str, Callable[[], list[Prompt]]]:
    """Returns functions that make the LLM's prompts, one for each condition."""
    none: list[None] = [None] * len(samples)
    whole = [replace(s, visual_token_num=model.count_tokens()) for s in samples]
    blind = [replace(s, no_image=True) for s in whole]
    for sample in whole:
        model.check(sample)

    def told(captions: list[str]) -> list[Prompt]:
        read = [replace(one, captions=[c], chosen_index=0) for one, c in zip(written, captions)]
        return model.splice(encoded, pruned, read, samples)

    def candidate(place: int) -> list[Prompt]:
        return told([one.captions[place] for one in written])

    return {
        FULL: lambda: model.splice(encoded, none, none, whole),
        NOTHING: lambda: model.splice(encoded, none, none, blind),
        PRUNED: lambda: model.splice(encoded, pruned, none, samples),
        **{condition: partial(candidate, place) for place, condition in enumerate(CANDIDATES)},
        TRUE: lambda: told([about.caption for about in asked]),
        FALSE: lambda: told([false_caption(about) for about in asked]),
    }


def _kept(model: LlavaAccm, encoded: Encoded, sample: Sample) -> dict[str, Kept]:
    """Returns the patches that each rule keeps; the answers use only one of the rules."""
    budget = model.budget(sample)
    kept = {}
    for rule in RULES:
        generator = torch.Generator().manual_seed(sample.seed)
        options = AccmOptions(budget.text_token_num, nearest=rule == "nearest")
        pruning = Pruning(ACCM, budget.visual_token_num, options)
        (found,) = prune([encoded.image], [encoded.query], [pruning], [generator])
        reasons = dict(zip(found.kept_idx.tolist(), found.reasons))
        kept[rule] = Kept(reasons, found.details.text_idx.tolist())
    return kept
