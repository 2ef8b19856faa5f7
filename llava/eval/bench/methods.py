"""The compared methods: transformers' LLaVA, and this pipeline full, pruned and compensated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from llava.eval.bench.arguments import ACCM, HF, HF_PACKED, PRUNE
from llava.eval.bench.shapes import compensator_of
from llava.eval.bench.stock import StockLlava
from llava.method import Method
from llava.model.backbones.llava_next import LlavaNext
from llava.model.backbones.pixels import Patches, Pixels
from llava.model.compensation.compensator import Compensator
from llava.model.language_model.llava_llama import LanguageModel, Prompt
from llava.model.llava_arch import LlavaAccm
from llava.model.memory import Memory
from llava.model.products import optimize_for_inference
from llava.model.products.forms import PLAIN, choose_forms
from llava.model.prompt_ids import prompt_ids
from llava.model.sample import Answer, Sample
from llava.model.stopwatch import Stopwatch

# transformers' own LLaVA: with plain weights, and with this pipeline's.
STOCK = frozenset((HF, HF_PACKED))
STAGES = ("encode", "prune", "caption", "relate", "select", "splice", "prefill", "decode")
NEVER = -1  # no token has this id: texts reach their limits


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        method: one of METHODS.
        visual_token_num: K.
        batch_size: questions per batch.
    """

    method: str
    visual_token_num: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.method}, K = {self.visual_token_num}, batch {self.batch_size}"


@dataclass(frozen=True)
class Lengths:
    """The lengths of texts, and how questions share images.

    Attributes:
        caption: tokens of each candidate.
        answer: tokens of each answer.
        questions_per_image: number of a batch's questions that share an image.
    """

    caption: int
    answer: int
    questions_per_image: int


def with_fixed_lengths(
    model: LlavaAccm, caption: int, compiled: bool, cuda_graphs: bool = False
) -> LlavaAccm:
    """Returns the model, sharing every part, with captions and answers that reach their limits.

    Args:
        model: the model.
        caption: tokens of each candidate.
        compiled: whether its LLM is compiled.
        cuda_graphs: whether its passes become CUDA graphs.
    """
    language_model, compensator = model.language_model, compensator_of(model)
    endless = LanguageModel(
        language_model.llm, language_model.projector, language_model.tokenizer, NEVER, compiled
    )
    fixed = LlavaAccm(
        model.backbone.with_language_model(endless),
        Compensator(
            compensator.caption_model,
            compensator.tokenizer,
            compensator.long_clip,
            compensator.selector,
            NEVER,
            caption,
        ),
        model.text_selection,
    ).eval()
    return fixed.use_cuda_graphs() if cuda_graphs else fixed


class Bench:
    """A runner of cases on images of noise.

    Args:
        model: model from with_fixed_lengths.
        lengths: lengths of texts.
        graphs: whether the LLM is compiled.
        products: how this pipeline's matrix products read weights; see optimize_for_inference.
    """

    def __init__(
        self,
        model: LlavaAccm,
        lengths: Lengths,
        graphs: bool,
        products: str = "auto",
    ) -> None:
        self.model = model
        self.lengths = lengths
        weight = next(model.tower.parameters())
        forms = choose_forms(products, weight.device, weight.dtype, graphs)
        # If the forms are equal (on a GPU), methods need no exchange and no recompilation.
        self._products = "plain" if set(forms.values()) == {PLAIN} else products
        self._graphs = graphs
        self._pruner = model.without_captions()
        self._memory = Memory()
        self._now: str | None = None
        self._stock: Any = None  # a StockLlava, from its first case on

    def prepare(self, case: Case) -> None:
        """Converts the weights to a case's form; two forms of a large model exceed the memory."""
        wanted = "plain" if case.method == HF else self._products
        if self._now != wanted:
            self._stock = None  # it holds the layers that are replaced
            optimize_for_inference(self.model, wanted, self._graphs)
            self._now = wanted
        if self._stock is None and case.method in STOCK:
            self._stock = StockLlava(self.model, self._graphs)

    def run(self, case: Case, pixels: Sequence[Pixels], watch: Stopwatch) -> list[Answer]:
        """Runs a case once.

        Args:
            case: the case, prepared.
            pixels: images from pixels(), new ones: a model caches those that it has seen.
            watch: receives the time of each stage.

        Returns:
            The answers of this pipeline; none for transformers' LLaVA.
        """
        if case.method in STOCK:
            self._stock.answer(pixels, questions(case.batch_size), self.lengths.answer, watch)
            return []
        model = self.model if case.method == ACCM else self._pruner
        shared = self._shared(case)
        with watch.stage("encode"):
            asked = Method(visual_token_num=case.visual_token_num)
            images = model.encode_images(pixels, model.needs([asked]), watch)
        samples = [
            Sample(
                images[place // shared],
                question,
                visual_token_num=case.visual_token_num,
                max_new_tokens=self.lengths.answer,
            )
            for place, question in enumerate(questions(case.batch_size))
        ]
        return model.answer(samples, watch, memory=self._memory)

    def pixels(self, case: Case, seed: int) -> Sequence[Pixels]:
        """Returns B images of noise with the largest number of tokens, float32, as if preprocessed.

        transformers' LLaVA gets one for each question, since it cannot share them.
        """
        side = self.model.tower.image_size
        number = (
            case.batch_size if case.method in STOCK else -(-case.batch_size // self._shared(case))
        )
        generator = torch.Generator().manual_seed(seed)
        backbone = self.model.backbone
        if not isinstance(backbone, LlavaNext):
            return torch.randn(number, 3, side, side, generator=generator)
        size, views = backbone.largest_size, len(backbone.views())
        return [
            Patches(torch.randn(views, 3, side, side, generator=generator), size)
            for _ in range(number)
        ]

    def _shared(self, case: Case) -> int:
        return min(self.lengths.questions_per_image, case.batch_size)

    def parts(self, method: str) -> list[nn.Module]:
        """Returns the modules that a method keeps in memory."""
        language_model = self.model.language_model
        llm = [language_model.llm, language_model.projector]
        if method in STOCK:
            return [self.model.tower.clip.vision_model, *llm]
        return [self.model.tower, *llm, *([self.model.compensator] if method == ACCM else [])]

    def forget(self) -> None:
        """Clears the caches, except that of the system prompt."""
        language_model, self._memory = self.model.language_model, Memory()
        ids = prompt_ids(questions(1)[0], language_model.tokenizer)
        nothing = torch.empty(0, self.model.tower.clip.config.vision_config.hidden_size)
        (embeds,) = language_model.embed([ids], [nothing.to(self.model.tower.device)])
        language_model.prefill_system(Prompt(ids, embeds), self._memory)


def questions(number: int) -> list[str]:
    """Returns different questions of similar length."""
    suffix = "\nAnswer the question using a single word or phrase."
    return [
        f"What is the color of the object with number {100 + i}?{suffix}" for i in range(number)
    ]


def cases(
    methods: Sequence[str], budgets: Sequence[int], batch_sizes: Sequence[int], num_patches: int
) -> list[Case]:
    """Returns all different combinations."""
    found = []
    for batch_size in batch_sizes:
        for method in methods:
            kept = budgets if method in (PRUNE, ACCM) else [num_patches]
            found += [Case(method, k, batch_size) for k in kept]
    return found
