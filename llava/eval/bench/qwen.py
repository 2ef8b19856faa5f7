"""Qwen2.5-VL with random weights beside transformers' own class: the runner of its cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import init_empty_weights
from PIL import Image
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import (
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
)

from llava.constants import IMAGE_TOKEN_INDEX
from llava.eval.bench.arguments import HF, HF_PACKED, PRUNE
from llava.eval.bench.methods import NEVER, Case, questions
from llava.eval.bench.random_model import SOURCE, LlamaWords, Noise, random_llm
from llava.method import ALL_TOKENS, Method
from llava.model.backbones.pixels import Patches
from llava.model.backbones.qwen2_5_vl import Qwen25Vl
from llava.model.compensation.supplement import Supplement
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.language_model.qwen_tokenizer import PLACEHOLDER
from llava.model.llava_arch import LlavaAccm
from llava.model.loading.placement import Placement
from llava.model.loading.weights import fill
from llava.model.memory import Memory
from llava.model.multimodal_encoder.qwen_tower import QwenTower
from llava.model.products import optimize_for_inference
from llava.model.sample import Answer, Sample
from llava.model.shapes import QwenShape
from llava.model.stopwatch import Stopwatch

PRUNER = "fastervlm"  # by attention received: Qwen2.5-VL has no CLIP


class QwenWords(LlamaWords):
    """A stand-in for Qwen's tokenizer, in the form of its template."""

    def chat(self, question: str, history: Sequence[tuple[str, str]]) -> str:
        """Returns the text of a question about an image."""
        return f"system You are a helpful assistant user {PLACEHOLDER} {question} assistant"


def random_qwen(
    shape: QwenShape,
    llm_layers: int | None,
    place: Placement,
    seed: int,
    share_layers: bool = False,
) -> LlavaAccm:
    """Returns a model that answers nonsense at the speed of a trained one, to its limits.

    Args:
        shape: shape of its parts.
        llm_layers: layers of the LLM; None takes the shape's.
        place: its device and dtype.
        seed: seed of the weights.
        share_layers: see random_llm.
    """
    noise = Noise(place, seed)
    with init_empty_weights():
        config = Qwen2_5_VLVisionConfig(**shape.vision)
        vision = Qwen2_5_VisionTransformerPretrainedModel._from_config(config)
    fill(vision, noise.like(vision), SOURCE, place.dtype, place.device_of)
    llm = random_llm(Qwen2_5_VLTextConfig, shape.llm, llm_layers, noise, share_layers)
    words: Any = QwenWords(llm.config.vocab_size)
    language_model = LanguageModel(llm, nn.Identity(), words, NEVER)
    tower = QwenTower(vision.to(place.device))
    backbone = Qwen25Vl(tower, Qwen2VLImageProcessorPil(), language_model)
    return LlavaAccm(backbone, None).eval().requires_grad_(False)


class QwenBench:
    """A runner of cases on images of noise; see Bench.

    Args:
        model: from random_qwen.
        shape: its shape.
        answer_length: tokens of each answer.
        products: how this pipeline's matrix products read weights; see optimize_for_inference.
    """

    def __init__(
        self, model: LlavaAccm, shape: QwenShape, answer_length: int, products: str
    ) -> None:
        self.model = model
        self._rows, self._columns = shape.grid
        self._answer_length = answer_length
        self._products = products
        self._memory = Memory()
        self._now: str | None = None
        self._stock: StockQwen | None = None

    @property
    def num_text(self) -> int:
        """The tokens of a prompt without the visual ones."""
        return len(prompt_of(self.model, questions(1)[0])) - 1

    def prepare(self, case: Case) -> None:
        """Converts the weights to a case's form."""
        wanted = "plain" if case.method == HF else self._products
        if self._now != wanted:
            self._stock = None  # it holds the layers that are replaced
            optimize_for_inference(self.model, wanted)
            self._now = wanted
        if self._stock is None and case.method in (HF, HF_PACKED):
            self._stock = StockQwen(self.model)

    def pixels(self, case: Case, seed: int) -> list[Patches]:
        """Returns images of noise, as if preprocessed."""
        config = self.model.tower.vision.config
        rows, columns = (side * config.spatial_merge_size for side in (self._rows, self._columns))
        width = config.in_channels * config.temporal_patch_size * config.patch_size**2
        generator = torch.Generator().manual_seed(seed)
        return [
            Patches(torch.randn(rows * columns, width, generator=generator), (1, rows, columns))
            for _ in range(case.batch_size)
        ]

    def run(self, case: Case, pixels: Sequence[Patches], watch: Stopwatch) -> list[Answer]:
        """Runs a case once; see Bench.run."""
        if self._stock is not None and case.method in (HF, HF_PACKED):
            self._stock.answer(pixels, questions(case.batch_size), self._answer_length, watch)
            return []
        how: dict[str, Any] = dict(pruner=ALL_TOKENS)
        if case.method == PRUNE:
            how = dict(pruner=PRUNER, visual_token_num=case.visual_token_num)
        with watch.stage("encode"):
            images = self.model.encode_images(pixels, self.model.needs([Method(**how)]), watch)
        samples = [
            Sample(image, question, max_new_tokens=self._answer_length, **how)
            for image, question in zip(images, questions(case.batch_size))
        ]
        return self.model.answer(samples, watch, memory=self._memory)

    def parts(self, method: str) -> list[nn.Module]:
        """Returns the modules that a method keeps in memory."""
        return [self.model.tower, self.model.language_model.llm]

    def forget(self) -> None:
        """Clears the caches."""
        self._memory = Memory()


def prompt_of(model: LlavaAccm, question: str) -> list[int]:
    """Returns the ids of a question's prompt, with one placeholder."""
    asked = Sample(Image.new("RGB", (28, 28)), question)
    return model.backbone.prompt_ids(asked, Supplement(), 1 << 20)


class StockQwen:
    """Qwen2_5_VLForConditionalGeneration on the same weights, with a dynamic cache.

    Args:
        model: the model whose tower and LLM it shares.
    """

    def __init__(self, model: LlavaAccm) -> None:
        self._model = model
        llm, vision = model.language_model.llm, model.tower.vision
        config = Qwen2_5_VLConfig(
            text_config=llm.config.to_dict(),
            vision_config=vision.config.to_dict(),
            image_token_id=llm.config.vocab_size - 1,
            video_token_id=llm.config.vocab_size - 2,
            tie_word_embeddings=llm.config.tie_word_embeddings,
        )
        with init_empty_weights():
            self.qwen = Qwen2_5_VLForConditionalGeneration(config)
        self.qwen.model.visual, self.qwen.model.language_model = vision, llm.model
        self.qwen.lm_head = llm.lm_head
        self.qwen.generation_config = GenerationConfig()
        self.qwen.eval()

    @torch.inference_mode()
    def answer(
        self,
        pixels: Sequence[Patches],
        asked: Sequence[str],
        answer_length: int,
        watch: Stopwatch,
    ) -> Tensor:
        """Answers questions, each about its own image; returns the new ids (B, T).

        Args:
            pixels: B images.
            asked: B questions.
            answer_length: tokens of each answer.
            watch: receives the times of "encode", "prefill" and "decode".
        """
        device = self.qwen.lm_head.weight.device
        ids = torch.tensor(self._prompts(pixels, asked), device=device)
        stages = iter(("encode", "prefill"))  # each module's first pass ends one

        def end_stage(*_: object) -> None:
            if (stage := next(stages, None)) is not None:
                watch.lap(stage)

        ends = (self.qwen.model.visual, self.qwen)
        hooks = [module.register_forward_hook(end_stage) for module in ends]
        watch.start()
        try:
            found = self.qwen.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == self.qwen.config.image_token_id).int(),
                pixel_values=torch.cat([of.values for of in pixels]).to(device),
                image_grid_thw=torch.tensor([of.shape for of in pixels], device=device),
                generation_config=GenerationConfig(
                    max_new_tokens=answer_length, do_sample=False, pad_token_id=0
                ),
            )
        finally:
            for hook in hooks:
                hook.remove()
        watch.lap("decode")
        return found[:, ids.shape[1] :]

    def _prompts(self, pixels: Sequence[Patches], asked: Sequence[str]) -> list[list[int]]:
        """Returns ids with a placeholder for each visual token; all are equally long."""
        rows, image = [], self.qwen.config.image_token_id
        for of, question in zip(pixels, asked):
            ids = prompt_of(self._model, question)
            place = ids.index(IMAGE_TOKEN_INDEX)
            count = len(of.values) // self._model.tower.vision.spatial_merge_unit
            rows.append(ids[:place] + [image] * count + ids[place + 1 :])
        return rows
