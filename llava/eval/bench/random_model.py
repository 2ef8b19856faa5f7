"""Models with random weights, made on the device without a checkpoint, and their tokenizers."""

from __future__ import annotations

import re
import zlib
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlavaNextImageProcessorPil,
    PreTrainedConfig,
    PreTrainedModel,
)

from llava.conversation import DEFAULT_TEMPLATE
from llava.model.backbones.llava15 import Llava15
from llava.model.backbones.llava_next import LlavaNext
from llava.model.backbones.tiled_vision import ViewEncoder
from llava.model.compensation.builder import build_caption_model, build_long_clip, build_selector
from llava.model.compensation.caption_model import CaptionModel
from llava.model.compensation.compensator import Compensator
from llava.model.compensation.long_clip import LongClipText, build_text_tower
from llava.model.compensation.selector import Selector
from llava.model.language_model.builder import empty_llm, fill_llm
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.llava_arch import LlavaAccm
from llava.model.loading.placement import Placement
from llava.model.loading.weights import fill
from llava.model.multimodal_encoder.builder import build_clip
from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_projector.builder import build_vision_projector
from llava.model.shapes import ModelShape

SOURCE = "random weights"
_NOISE = 1 << 24  # random numbers; tensors repeat them
_PREFIX_LENGTH = 20


_LAYER = re.compile(r"\.\d+\.")
_PIECE = re.compile(r"\n|\w{1,9}|[^\w\s]")  # LLaVA-1.5's system prompt: 34, really 35
# The words of captions: one token each for GPT-2, LongCLIP and Llama.
_WORDS = (
    "a man in the red shirt is on street with white dog and black car near tree under blue sky "
    "while two people sit at table by water"
).split()


def random_model(
    shape: ModelShape,
    llm_layers: int | None,
    place: Placement,
    seed: int,
    share_layers: bool = False,
) -> LlavaAccm:
    """Returns a model that answers nonsense at the speed of a trained one.

    Args:
        shape: shape of its parts.
        llm_layers: layers of the LLM; None takes the shape's.
        place: its device and dtype.
        seed: seed of the weights.
        share_layers: see random_llm.
    """
    noise = Noise(place, seed)
    tower = _random_tower(shape, noise)
    llm = random_llm(LlamaConfig, shape.llm, llm_layers, noise, share_layers)
    with init_empty_weights():
        projector = build_vision_projector(
            "mlp2x_gelu", shape.vision["hidden_size"], llm.config.hidden_size
        )
    fill(projector, noise.like(projector), SOURCE, place.dtype, place.device_of)
    # They stand in for the tokenizers, of which a random model has none.
    clip_words: Any = ClipWords(tower.clip.config.text_config.vocab_size)
    llama_words: Any = LlamaWords(llm.config.vocab_size)
    language_model = LanguageModel(llm, projector, llama_words)
    backbone = _backbone(shape, tower, clip_words, language_model)
    model = LlavaAccm(backbone, _random_compensator(shape, noise))
    return model.eval().requires_grad_(False)


def random_llm(
    kind: type[PreTrainedConfig],
    sizes: dict,
    num_layers: int | None,
    noise: Noise,
    share_layers: bool,
) -> PreTrainedModel:
    """Returns an LLM with random weights.

    Args:
        kind: transformers' class of its configuration.
        sizes: arguments of that class.
        num_layers: of the LLM; None takes that of the sizes.
        noise: gives the weights, with their place.
        share_layers: whether all layers share the weights of one.
    """
    layers = {} if num_layers is None else dict(num_hidden_layers=num_layers)
    llm, place = empty_llm(kind(**sizes | layers), SOURCE), noise.place
    tensors = noise.like(llm, share_layers)
    if llm.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    fill_llm(llm, tensors, SOURCE, place.dtype, place.device_of)
    return llm.to(place.device)  # the buffers too


def _backbone(
    shape: ModelShape, tower: ClipTower, clip_words: Any, language_model: LanguageModel
) -> Llava15:
    """Returns the backbone of the shape's family, with transformers' usual image processor."""
    side = dict(height=tower.image_size, width=tower.image_size)
    sizes: dict[str, Any] = dict(size={"shortest_edge": tower.image_size}, crop_size=side)
    if not shape.resolutions:
        return Llava15(tower, clip_words, CLIPImageProcessorPil(**sizes), language_model)
    pinpoints = [list(size) for size in shape.resolutions]
    processor = LlavaNextImageProcessorPil(**sizes, image_grid_pinpoints=pinpoints)
    newline = torch.zeros_like(language_model.llm.get_input_embeddings().weight[0])
    encoder = ViewEncoder(tower, processor, shape.resolutions)
    return LlavaNext(tower, clip_words, encoder, language_model, newline, DEFAULT_TEMPLATE)


def _random_tower(shape: ModelShape, noise: Noise) -> ClipTower:
    config = dict(
        vision_config=shape.vision | dict(projection_dim=shape.projection),
        text_config=shape.text | dict(projection_dim=shape.projection),
        projection_dim=shape.projection,
    )
    with init_empty_weights():
        empty = CLIPModel(CLIPConfig(**config))
    return ClipTower(build_clip(config, noise.like(empty), SOURCE, noise.place))


def _random_compensator(shape: ModelShape, noise: Noise) -> Compensator:
    with init_empty_weights():
        gpt = GPT2LMHeadModel(GPT2Config(**shape.gpt2))
        empty = CaptionModel(gpt, shape.projection, _PREFIX_LENGTH, shape.mapper_layers)
        text_tower = build_text_tower(**shape.long_clip)
        selector = Selector(shape.long_clip["embed_dim"], shape.selector_layers)
    vocabulary = gpt.config.vocab_size
    texts = noise.like(text_tower)
    texts["positional_embedding_res"] = texts["positional_embedding"].clone()
    tower = build_long_clip(texts, SOURCE, noise.place)
    return Compensator(
        build_caption_model(shape.gpt2, shape.projection, noise.like(empty), SOURCE, noise.place),
        GptWords(vocabulary),
        LongClipText(tower, tower.context_length),
        build_selector(tower.text_projection.shape[1], noise.like(selector), SOURCE, noise.place),
    )


class Noise:
    """Random weights.

    Args:
        place: their device and dtype.
        seed: seed of all weights.
    """

    def __init__(self, place: Placement, seed: int) -> None:
        self.place = place
        generator = torch.Generator(place.device).manual_seed(seed)
        drawn = torch.randn(_NOISE, device=place.device, generator=generator)
        self._drawn = (0.02 * drawn).to(place.dtype)

    def like(self, module: nn.Module, share_layers: bool = False) -> dict[str, Tensor]:
        """Returns a tensor for each parameter of a module, which may be on the meta device.

        Args:
            module: the module.
            share_layers: whether the layers of a stack receive the tensors of its first.
        """
        tensors: dict[str, Tensor] = {}
        for name, parameter in module.named_parameters():
            first = _LAYER.sub(".0.", name) if share_layers else name
            if first not in tensors:
                tensors[first] = self._tensor(first, parameter.shape)
            tensors[name] = tensors[first]
        return tensors

    def _tensor(self, name: str, shape: torch.Size) -> Tensor:
        options: dict[str, Any] = dict(device=self.place.device, dtype=self.place.dtype)
        if len(shape) == 1 and ("norm" in name or "ln_" in name):
            return (torch.ones if name.endswith("weight") else torch.zeros)(shape, **options)
        tensor = torch.empty(shape, **options)
        for part in tensor.view(-1).split(_NOISE):
            part.copy_(self._drawn[: len(part)])
        return tensor


def _ids(text: str, size: int) -> list[int]:
    """Returns an id below ``size`` for each piece, the same at every place."""
    return [zlib.crc32(piece.encode()) % size for piece in _PIECE.findall(text)]


class _Words:
    """A stand-in for a tokenizer.

    Args:
        vocab_size: rows of the model's embedding table.
    """

    def __init__(self, vocab_size: int) -> None:
        self._size = vocab_size

    def decode(self, ids: list[int], clean_up_tokenization_spaces: bool = False) -> str:
        """Returns one word per id."""
        return " ".join(_WORDS[i % len(_WORDS)] for i in ids)


class LlamaWords(_Words):
    """A stand-in for LLaVA's tokenizer; the last few ids are never used."""

    unk_token_id, bos_token_id, eos_token_id = 0, 1, 2

    def encode(self, text: str) -> list[int]:
        """Returns ids, the begin-of-text first."""
        return [self.bos_token_id, *self.encode_more(text)]

    def encode_more(self, text: str) -> list[int]:
        """Returns ids without the begin-of-text."""
        return [3 + i for i in _ids(text, self._size - 11)]


class GptWords(_Words):
    """A stand-in for GPT-2's tokenizer."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Returns ids."""
        return _ids(text, self._size)


class ClipWords(_Words):
    """A stand-in for CLIP's tokenizer."""

    def encode(self, text: str, max_length: int) -> list[int]:
        """Returns ids between begin- and end-of-text."""
        ids = _ids(text, self._size - 2)[: max_length - 2]
        return [self._size - 2, *ids, self._size - 1]
