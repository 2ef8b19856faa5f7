"""Encodes each distinct image and question once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from llava.model.memory import Memory
from llava.model.multimodal_encoder.visual_tokens import OF_IMAGE, Needs, VisualTokens, if_fewer

if TYPE_CHECKING:
    from llava.model.llava_arch import LlavaAccm
    from llava.model.sample import Sample


def encode_distinct(
    model: LlavaAccm,
    images: Sequence[Image.Image | VisualTokens],
    memory: Memory,
    needs: Needs = OF_IMAGE,
) -> dict[int, VisualTokens]:
    """Encodes images; those of the same pixels share one encoding, in this call and in a run.

    Args:
        model: encodes them.
        images: any of them may be encoded already.
        memory: the run's.
        needs: what the tower computes beside the features.

    Returns:
        The encodings by the id() of the images.
    """
    found = {id(image): image for image in images if isinstance(image, VisualTokens)}
    new = {id(image): image for image in images if not isinstance(image, VisualTokens)}
    if not new:
        return found
    pixels = dict(zip(new, model.preprocess(list(new.values()))))
    names = {key: _digest(of_image) for key, of_image in pixels.items()}
    kept = {name: memory.find(name) for name in names.values()}
    known = {name: image for name, image in kept.items() if image and image.has(needs)}
    missing = {names[key]: p for key, p in pixels.items() if names[key] not in known}
    if missing:
        encoded = model.encode_images(torch.stack(list(missing.values())), **if_fewer(needs))
        for name, image in zip(missing, encoded):
            known[name] = image.clone()
            memory.keep(name, known[name])
    return found | {key: known[name] for key, name in names.items()}


def encode_questions_of(model: LlavaAccm, samples: Sequence[Sample]) -> list[Tensor | None]:
    """Encodes the different questions of samples; None for those that need none."""
    new = [
        Needs.QUESTION in model.needs([sample]) and sample.text_embed is None for sample in samples
    ]
    asked = [sample.question_of_the_method for sample in samples]
    questions = list(dict.fromkeys(q for q, is_new in zip(asked, new) if is_new))
    texts = dict(zip(questions, model.encode_questions(questions))) if questions else {}
    return [
        texts[question] if is_new else sample.text_embed
        for sample, question, is_new in zip(samples, asked, new)
    ]


def encode_raw_questions_of(model: LlavaAccm, samples: Sequence[Sample]) -> list[Tensor | None]:
    """Encodes questions whose length in the shared space counts; None for the others.

    Each is encoded by itself, so that its last digits depend on no other.
    """
    texts: dict[str, Tensor] = {}
    for sample in samples:
        question = sample.question_of_the_method
        if Needs.RAW_QUESTION in model.needs([sample]) and question not in texts:
            ids = model.clip_tokenizer.encode(question, model.tower.max_text_length)
            (texts[question],) = model.tower.embed_text([ids], raw=True)
    return [texts.get(sample.question_of_the_method) for sample in samples]


def _digest(pixels: Tensor) -> bytes:
    """Returns a key of an image from its preprocessed pixels (3, S, S) on the CPU."""
    return hashlib.blake2b(pixels.numpy().tobytes()).digest()
