"""Encodes each distinct image and question once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from llava.model.backbones.pixels import digest_of
from llava.model.memory import Memory
from llava.model.multimodal_encoder.visual_tokens import OF_IMAGE, Needs, VisualTokens, if_fewer
from llava.model.stopwatch import Stopwatch
from llava.model.token_pruning.pruner import Query

if TYPE_CHECKING:
    from llava.model.llava_arch import LlavaAccm
    from llava.model.sample import Sample


def encode_distinct(
    model: LlavaAccm,
    images: Sequence[Image.Image | VisualTokens],
    memory: Memory,
    needs: Needs = OF_IMAGE,
    watch: Stopwatch | None = None,
) -> dict[int, VisualTokens]:
    """Encodes images; equal pixels share one encoding, within this call and within a run.

    Args:
        model: encodes them.
        images: any of them may be encoded already.
        memory: the run's.
        needs: the values that the tower computes in addition to the features.
        watch: receives the time of a side tower, if there is one.

    Returns:
        The encodings by the id() of the images.
    """
    found = {id(image): image for image in images if isinstance(image, VisualTokens)}
    new = {id(image): image for image in images if not isinstance(image, VisualTokens)}
    if not new:
        return found
    pixels = dict(zip(new, model.preprocess(list(new.values()))))
    names = {key: digest_of(of_image) for key, of_image in pixels.items()}
    kept = {name: memory.find(name) for name in names.values()}
    known = {name: image for name, image in kept.items() if image and image.has(needs)}
    missing = {names[key]: p for key, p in pixels.items() if names[key] not in known}
    if missing:
        timed = {} if model.backbone.side is None else {"watch": watch}
        encoded = model.encode_images(list(missing.values()), **if_fewer(needs), **timed)
        for name, image in zip(missing, encoded):
            known[name] = image.clone()
            memory.keep(name, known[name])
    return found | {key: known[name] for key, name in names.items()}


def encode_queries(model: LlavaAccm, samples: Sequence[Sample]) -> list[Query]:
    """Encodes the different questions of samples, as far as each sample needs it."""
    needs = [model.needs([sample]) for sample in samples]
    asked = [sample.question_of_the_method for sample in samples]
    is_new = [
        Needs.QUESTION in need and sample.text_embed is None for need, sample in zip(needs, samples)
    ]
    questions = list(dict.fromkeys(q for q, new in zip(asked, is_new) if new))
    texts = dict(zip(questions, model.encode_questions(questions))) if questions else {}
    embed, language_model = model.backbone.embed_segments, model.language_model
    segments = {q: embed(q) for q, n in zip(asked, needs) if Needs.TEXT_EMBEDS in n}
    read_words = [q for q, n in zip(asked, needs) if Needs.WORDS in n]
    words = {q: language_model.embed_content_words(q) for q in read_words}
    return [
        Query(
            texts[question] if new else sample.text_embed,
            segments.get(question),
            words.get(question),
        )
        for sample, question, new in zip(samples, asked, is_new)
    ]
