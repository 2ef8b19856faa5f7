"""What is compared: transformers' LLaVA, and this pipeline in full, pruned, and compensated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llava.eval.bench.arguments import ACCM, HF, HF_PACKED, PRUNE
from llava.eval.bench.stock import StockLlava
from llava.model.compensation.compensator import Compensator
from llava.model.language_model.llava_llama import LanguageModel, Prompt
from llava.model.llava_arch import LlavaAccm
from llava.model.memory import Memory
from llava.model.products import optimize_for_inference
from llava.model.products.forms import PLAIN, choose_forms
from llava.model.prompt import prompt_ids
from llava.model.sample import Answer, Sample
from llava.model.stopwatch import Stopwatch

STOCK = frozenset(
    (HF, HF_PACKED)
)  # transformers' own LLaVA: with plain weights, and with this pipeline's
STAGES = ("encode", "prune", "caption", "select", "splice", "prefill", "decode")
_NEVER = -1  # no token has this id: texts go on to their limits


@dataclass(frozen=True)
class Case:
    """What one row of the table is about.

    Attributes:
        method: of METHODS.
        visual_token_num: K.
        batch_size: questions at once.
    """

    method: str
    visual_token_num: int
    batch_size: int

    def __str__(self) -> str:
        return f"{self.method}, K = {self.visual_token_num}, batch {self.batch_size}"


@dataclass(frozen=True)
class Lengths:
    """What is asked, and how long texts get.

    Attributes:
        caption: tokens of every candidate.
        answer: tokens of every answer.
        questions_per_image: so many questions of a batch share an image.
    """

    caption: int
    answer: int
    questions_per_image: int


def with_fixed_lengths(model: LlavaAccm, caption: int, graphs: bool) -> LlavaAccm:
    """The same model, every part shared, whose captions and answers all go on to their limits."""
    language_model, compensator = model.language_model, model.compensator
    return LlavaAccm(
        model.tower,
        model.clip_tokenizer,
        model.image_processor,
        LanguageModel(
            language_model.llm, language_model.projector, language_model.tokenizer, _NEVER, graphs
        ),
        Compensator(
            compensator.caption_model,
            compensator.tokenizer,
            compensator.long_clip,
            compensator.selector,
            _NEVER,
            caption,
        ),
        model.image_aspect_ratio,
        model.text_selection,
    ).eval()


class Bench:
    """Runs cases on images of noise.

    Args:
        model: from with_fixed_lengths.
        lengths: of texts.
        graphs: whether the LLM is compiled.
        products: how this pipeline's products read their weights; see optimize_for_inference.
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
        # Where nothing differs (on a GPU), nothing is exchanged between methods, nor compiled anew.
        self._products = "plain" if set(forms.values()) == {PLAIN} else products
        self._graphs = graphs
        self._pruner = model.without_captions()
        self._memory = Memory()
        self._now: str | None = None
        self._stock: StockLlava | None = None

    def prepare(self, case: Case) -> None:
        """Brings the weights into the form that a case wants: two forms of a large model would not
        fit into memory together."""
        wanted = "plain" if case.method == HF else self._products
        if self._now != wanted:
            self._stock = None  # it holds the layers that go
            optimize_for_inference(self.model, wanted, self._graphs)
            self._now = wanted
        if self._stock is None and case.method in STOCK:
            self._stock = StockLlava(self.model, self._graphs)

    def run(self, case: Case, pixels: Tensor, watch: Stopwatch) -> list[Answer]:
        """Runs a case once.

        Args:
            case: which; it was prepared.
            pixels: from pixels(); a model that has seen them would remember them.
            watch: is told what each stage takes.

        Returns:
            The answers of this pipeline; none for transformers'.
        """
        if case.method in STOCK:
            self._stock.answer(pixels, questions(case.batch_size), self.lengths.answer, watch)
            return []
        model = self.model if case.method == ACCM else self._pruner
        shared = self._shared(case)
        with watch.stage("encode"):
            images = model.encode_images(pixels)
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

    def pixels(self, case: Case, seed: int) -> Tensor:
        """Images of noise (B, 3, S, S) float32, as if preprocessed; one for each question of
        transformers' LLaVA, which cannot share them."""
        side = self.model.tower.image_size
        number = (
            case.batch_size if case.method in STOCK else -(-case.batch_size // self._shared(case))
        )
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(number, 3, side, side, generator=generator)

    def _shared(self, case: Case) -> int:
        return min(self.lengths.questions_per_image, case.batch_size)

    def parts(self, method: str) -> list[nn.Module]:
        """What a method has in memory."""
        language_model = self.model.language_model
        llm = [language_model.llm, language_model.projector]
        if method in STOCK:
            return [self.model.tower.clip.vision_model, *llm]
        return [self.model.tower, *llm, *([self.model.compensator] if method == ACCM else [])]

    def forget(self) -> None:
        """Drops what was read before, but for the system prompt."""
        language_model, self._memory = self.model.language_model, Memory()
        ids = prompt_ids(questions(1)[0], language_model.tokenizer)
        nothing = torch.empty(0, self.model.tower.clip.config.vision_config.hidden_size)
        (embeds,) = language_model.embed([ids], [nothing.to(self.model.tower.device)])
        language_model.read_system(Prompt(ids, embeds), self._memory)


def questions(number: int) -> list[str]:
    """Different questions of like length."""
    suffix = "\nAnswer the question using a single word or phrase."
    return [
        f"What is the color of the object with number {100 + i}?{suffix}" for i in range(number)
    ]


def cases(
    methods: Sequence[str], budgets: Sequence[int], batch_sizes: Sequence[int], num_patches: int
) -> list[Case]:
    """All combinations that differ."""
    found = []
    for batch_size in batch_sizes:
        for method in methods:
            kept = budgets if method in (PRUNE, ACCM) else [num_patches]
            found += [Case(method, k, batch_size) for k in kept]
    return found
