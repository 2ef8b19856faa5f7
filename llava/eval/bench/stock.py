"""transformers' own LLaVA on the same weights: what the pipeline is compared with."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from llava.constants import IMAGE_TOKEN_INDEX
from llava.model.llava_arch import LlavaAccm
from llava.model.prompt import prompt_ids
from llava.model.stopwatch import Stopwatch


class StockLlava:
    """LlavaForConditionalGeneration with its best stock settings: scaled-dot-product attention, a
    cache, and with ``graphs`` a static one, for which generate compiles the model on a GPU.

    Args:
        model: whose tower, projector and LLM it shares.
        graphs: see above.
    """

    def __init__(self, model: LlavaAccm, graphs: bool) -> None:
        self._model = model
        self._cache = "static" if graphs else "dynamic"
        self.llava = _share(model)
        self._watch: Stopwatch | None = None
        self._reading = False
        self.llava.model.multi_modal_projector.register_forward_hook(self._after_encode)
        self.llava.lm_head.register_forward_hook(self._after_step)

    @torch.inference_mode()
    def answer(
        self, pixels: Tensor, questions: Sequence[str], answer_length: int, watch: Stopwatch
    ) -> None:
        """Answers questions, each about an image of its own.

        Args:
            pixels: (B, 3, S, S).
            questions: B of them.
            answer_length: tokens of every answer.
            watch: is told what "encode", "prefill" and "decode" take.
        """
        ids, mask = self._prompts(questions)
        weight = self.llava.lm_head.weight
        self._watch, self._reading = watch, True
        watch.start()
        self.llava.generate(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=pixels.to(weight.device, weight.dtype),
            generation_config=GenerationConfig(
                max_new_tokens=answer_length,
                do_sample=False,
                cache_implementation=self._cache,
                pad_token_id=0,
            ),
        )
        watch.lap("decode")

    def _prompts(self, questions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids (B, L) with a placeholder for each patch, padded on the left, and their mask."""
        image = [self.llava.config.image_token_id] * self._model.tower.num_patches
        rows = []
        for question in questions:
            ids = prompt_ids(question, self._model.language_model.tokenizer)
            place = ids.index(IMAGE_TOKEN_INDEX)
            rows.append(ids[:place] + image + ids[place + 1 :])
        length = max(map(len, rows))
        padding = [length - len(row) for row in rows]
        ids = torch.tensor([[0] * more + row for more, row in zip(padding, rows)])
        mask = torch.tensor([[0] * more + [1] * len(row) for more, row in zip(padding, rows)])
        device = self.llava.lm_head.weight.device
        return ids.to(device), mask.to(device)

    def _after_encode(self, *_: object) -> None:
        self._watch.lap("encode")

    def _after_step(self, *_: object) -> None:
        if self._reading:
            self._watch.lap("prefill")
        self._reading = False


def _share(model: LlavaAccm) -> LlavaForConditionalGeneration:
    """transformers' LLaVA around the very weights of a model."""
    clip, language_model = model.tower.clip, model.language_model
    llm = language_model.llm
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**clip.config.vision_config.to_dict()),
        text_config=copy.deepcopy(llm.config),
        image_token_index=llm.config.vocab_size - 1,
        vision_feature_layer=model.tower.select_layer,
    )
    with init_empty_weights():
        llava = LlavaForConditionalGeneration(config)
    vision = llava.model.vision_tower
    first, _, second = language_model.projector
    for stock, own in (
        (llava.model.language_model, llm.model),
        (llava.lm_head, llm.lm_head),
        (getattr(vision, "vision_model", vision), clip.vision_model),
        (llava.model.multi_modal_projector.linear_1, first),
        (llava.model.multi_modal_projector.linear_2, second),
    ):
        stock.load_state_dict(own.state_dict(), assign=True)
    # Buffers were made on the CPU; what generate reads (sampling, an end) must not matter.
    llava.generation_config = GenerationConfig()
    return llava.to(llm.device).eval().requires_grad_(False)
