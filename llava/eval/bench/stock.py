"""transformers' own LLaVA, 1.5 or NeXT, on the same weights, to compare the pipeline with."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Union

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from llava.constants import IMAGE_TOKEN_INDEX
from llava.eval.bench.shapes import newlines_of
from llava.model.backbones.llava_next import LlavaNext
from llava.model.backbones.pixels import Patches, Pixels
from llava.model.language_model.fused import unfused
from llava.model.llava_arch import LlavaAccm
from llava.model.prompt_ids import prompt_ids
from llava.model.stopwatch import Stopwatch

Stock = Union[LlavaForConditionalGeneration, LlavaNextForConditionalGeneration]


class StockLlava:
    """transformers' class of the model's family with its best stock settings.

    They are scaled-dot-product attention and a cache; with ``graphs`` the cache is static, for
    which generate compiles the model on a GPU.

    Args:
        model: the model whose tower, projector and LLM it shares.
        graphs: see above.
    """

    def __init__(self, model: LlavaAccm, graphs: bool) -> None:
        self._model = model
        self._cache = "static" if graphs else "dynamic"
        self.llava = _share(model)
        self._watch: Stopwatch | None = None
        self._reading = False
        self.llava.model.multi_modal_projector.register_forward_hook(self._after_encode)
        self.llava.register_forward_hook(self._after_step)

    @torch.inference_mode()
    def answer(
        self,
        pixels: Sequence[Pixels],
        questions: Sequence[str],
        answer_length: int,
        watch: Stopwatch,
    ) -> None:
        """Answers questions, each about its own image.

        Args:
            pixels: B images.
            questions: B questions.
            answer_length: tokens of each answer.
            watch: receives the times of "encode", "prefill" and "decode".
        """
        ids, mask = self._prompts(questions)
        self._watch, self._reading = watch, True
        watch.start()
        self.llava.generate(
            input_ids=ids,
            attention_mask=mask,
            **self._images(pixels),
            generation_config=GenerationConfig(
                max_new_tokens=answer_length,
                do_sample=False,
                cache_implementation=self._cache,
                pad_token_id=0,
            ),
        )
        watch.lap("decode")

    def _images(self, pixels: Sequence[Pixels]) -> dict[str, Tensor]:
        """Returns what generate receives of images."""
        values = [one.values if isinstance(one, Patches) else one for one in pixels]
        given = {"pixel_values": torch.stack(values).to(self.llava.device, self.llava.dtype)}
        sizes = [one.shape for one in pixels if isinstance(one, Patches)]
        return given | ({"image_sizes": torch.tensor(sizes)} if sizes else {})

    def _prompts(self, questions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns ids (B, L) with a placeholder per patch, padded on the left, and their mask."""
        length = self._model.count_tokens() + newlines_of(self._model)
        image = [self.llava.config.image_token_id] * length
        rows = []
        for question in questions:
            prompt = prompt_ids(question, self._model.language_model.tokenizer)
            place = prompt.index(IMAGE_TOKEN_INDEX)
            rows.append(prompt[:place] + image + prompt[place + 1 :])
        length = max(map(len, rows))
        padding = [length - len(row) for row in rows]
        ids = torch.tensor([[0] * more + row for more, row in zip(padding, rows)])
        mask = torch.tensor([[0] * more + [1] * len(row) for more, row in zip(padding, rows)])
        return ids.to(self.llava.device), mask.to(self.llava.device)

    def _after_encode(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.lap("encode")

    def _after_step(self, *_: object) -> None:
        if self._reading and self._watch is not None:
            self._watch.lap("prefill")
        self._reading = False


def _share(model: LlavaAccm) -> Stock:
    """Returns transformers' LLaVA around the layers of a model, in their present form."""
    clip, language_model = model.tower.clip, model.language_model
    llm, backbone = language_model.llm, model.backbone
    settings: dict[str, Any] = dict(
        vision_config=CLIPVisionConfig(**clip.config.vision_config.to_dict()),
        text_config=copy.deepcopy(llm.config),
        image_token_index=llm.config.vocab_size - 1,
        vision_feature_layer=model.tower.select_layer,
    )
    llava: Stock
    with init_empty_weights():
        if isinstance(backbone, LlavaNext):
            settings["image_grid_pinpoints"] = [list(size) for size in backbone.encoder.resolutions]
            llava = LlavaNextForConditionalGeneration(LlavaNextConfig(**settings))
        else:
            llava = LlavaForConditionalGeneration(LlavaConfig(**settings))
    if isinstance(backbone, LlavaNext):
        llava.model.image_newline = backbone.image_newline
    # Buffers were made on the CPU; settings of generate (sampling, an end) must have no effect.
    llava.generation_config = GenerationConfig()
    for buffer in llava.buffers():
        buffer.data = buffer.to(llm.device)
    vision, projector = llava.model.vision_tower, llava.model.multi_modal_projector
    projector.linear_1, _, projector.linear_2 = language_model.projector
    llava.lm_head = llm.lm_head
    _share_layers(llava.model.language_model, llm.model)
    _share_layers(getattr(vision, "vision_model", vision), clip.vision_model)
    return llava.eval().requires_grad_(False)


def _share_layers(stock: nn.Module, own: nn.Module) -> None:
    """Puts the layers and other parameters of a module into another of the same structure.

    Modules made of layers stay, with their attention implementation.
    """
    for name, module in own.named_modules():
        if not list(module.children()):
            stock.set_submodule(name, unfused(stock.get_submodule(name), module))
            continue
        for key, parameter in module.named_parameters(recurse=False):
            setattr(stock.get_submodule(name), key, parameter)
