"""The main path: LLaVA-1.5 with ACCM, from images and questions to answers in five stages.

    encode      images through CLIP, questions through its text tower
    prune       which K of the N visual tokens stay
    compensate  what the others said, as a caption
    splice      prompt, kept tokens and caption become the LLM's input
    generate    the LLM answers

Plain LLaVA-1.5 is the same path with a budget of all tokens: it prunes nothing and so has nothing
to compensate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil

from llava.constants import DEFAULT_IMAGE_TOKEN
from llava.errors import UserError
from llava.mm_utils import process_images
from llava.model.compensation.compensator import Compensation, Compensator
from llava.model.language_model.llava_llama import Generated, LanguageModel
from llava.model.multimodal_encoder import clip_encoder
from llava.model.multimodal_encoder.clip_encoder import ClipTower, EncodedImage
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.prompt import insert_caption, prompt_ids
from llava.model.token_pruning.accm import Selection, select_tokens, text_distances
from llava.model.token_pruning.budget import Budget, resolve_budget

DEFAULT_SEED = 42
DEFAULT_MAX_NEW_TOKENS = 128


@dataclass(frozen=True)
class Sample:
    """One question about one image.

    Attributes:
        image: an image, or what encode_images made of it. Samples that share the object share its
            encoding.
        question: what follows ``<image>`` and a newline in the prompt.
        tower_question: the part of it that text tower, caption model and selector read; None takes
            the first line.
        visual_token_num: K; None takes VISUAL_TOKEN_NUM of clip_encoder.py.
        text_token_num: T; None takes the paper's share of K (budget.py).
        seed: of the one random draw, so that a result depends on nothing but its sample.
        max_new_tokens: limit of the answer.
        no_image: let the LLM read the prompt without any visual token and without a caption: what
            can be answered so needs no image, and is the floor to compare with.
    """

    image: Image.Image | EncodedImage
    question: str
    tower_question: str | None = None
    visual_token_num: int | None = None
    text_token_num: int | None = None
    seed: int = DEFAULT_SEED
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    no_image: bool = False

    @property
    def question_of_the_method(self) -> str:
        """What the text tower, the caption model and the selector read."""
        if self.tower_question is not None:
            return self.tower_question
        return self.question.split("\n", 1)[0]


@dataclass(frozen=True)
class Encoded:
    """Stage 1 for one sample.

    Attributes:
        image: what the tower says of it; samples of one image share the object.
        text_embed: (P,) float32 of unit length, the question.
    """

    image: EncodedImage
    text_embed: Tensor


@dataclass(frozen=True)
class Spliced:
    """Stage 4 for one sample.

    Attributes:
        input_ids: the prompt's ids with the caption's; IMAGE_TOKEN_INDEX stands for the image.
        embeds: (L, D), L = len(input_ids) - 1 + K.
    """

    input_ids: list[int]
    embeds: Tensor


@dataclass(frozen=True)
class Answer:
    """What happened to one sample.

    Attributes:
        text: the answer, blanks around it removed.
        raw_text: the answer as decoded.
        out_ids: its token ids.
        first_logits: (V,) float32, of its first token.
        kept_idx: the patches that the LLM saw, in order.
        selection: why; None where nothing was pruned.
        compensation: the captions; None where there was none.
        input_ids: what the LLM read, IMAGE_TOKEN_INDEX for the image.
        input_length: positions of the LLM's input, visual tokens included.
    """

    text: str
    raw_text: str
    out_ids: list[int]
    first_logits: Tensor
    kept_idx: list[int]
    selection: Selection | None
    compensation: Compensation | None
    input_ids: list[int]
    input_length: int


class LlavaAccm(nn.Module):
    """LLaVA-1.5 with ACCM. ``llava.model.builder.load_pretrained_model`` makes one.

    Args:
        tower: CLIP, vision and text.
        clip_tokenizer: CLIP's tokenizer.
        image_processor: images to pixels.
        language_model: projector and Llama.
        compensator: None prunes without giving anything back.
        image_aspect_ratio: "pad", or None; see process_images.
        text_selection: "farthest" (the method) or "nearest" patches are picked by the question.
    """

    def __init__(
        self,
        tower: ClipTower,
        clip_tokenizer: ClipTokenizer,
        image_processor: CLIPImageProcessorPil,
        language_model: LanguageModel,
        compensator: Compensator | None,
        image_aspect_ratio: str | None = "pad",
        text_selection: str = "farthest",
    ) -> None:
        super().__init__()
        self.tower = tower
        self.clip_tokenizer = clip_tokenizer
        self.image_processor = image_processor
        self.language_model = language_model
        self.compensator = compensator
        self.image_aspect_ratio = image_aspect_ratio
        self.text_selection = text_selection

    def without_captions(self) -> LlavaAccm:
        """The same model, every part shared, that gives nothing back for what it prunes."""
        return LlavaAccm(
            self.tower,
            self.clip_tokenizer,
            self.image_processor,
            self.language_model,
            None,
            self.image_aspect_ratio,
            self.text_selection,
        ).train(self.training)

    @torch.inference_mode()
    def answer(self, samples: list[Sample]) -> list[Answer]:
        """Answers any number of samples at once, each as it would be answered alone.

        Raises:
            UserError: a sample that cannot be answered; see check.
        """
        if not samples:
            return []
        for sample in samples:
            self.check(sample)
        encoded = self.encode(samples)
        selections = self.prune(encoded, samples)
        compensations = self.compensate(encoded, selections, samples)
        spliced = self.splice(encoded, selections, compensations, samples)
        generated = self.generate(spliced, samples)
        return [
            self._answer(*stages)
            for stages in zip(samples, selections, compensations, spliced, generated)
        ]

    # The five stages ----------------------------------------------------------------------------

    def encode(self, samples: list[Sample]) -> list[Encoded]:
        """Stage 1. Every image and every question goes through its tower once."""
        images = {id(sample.image): sample.image for sample in samples}
        new = {key: image for key, image in images.items() if not isinstance(image, EncodedImage)}
        images |= zip(new, self.encode_images(self.preprocess(list(new.values()))) if new else ())
        questions = list(dict.fromkeys(sample.question_of_the_method for sample in samples))
        ids = [self.clip_tokenizer.encode(q, self.tower.max_text_length) for q in questions]
        texts = dict(zip(questions, self.tower.embed_text(ids)))
        return [Encoded(images[id(s.image)], texts[s.question_of_the_method]) for s in samples]

    def prune(self, encoded: list[Encoded], samples: list[Sample]) -> list[Selection | None]:
        """Stage 2. None for a sample whose budget is all tokens."""
        patches = torch.stack([e.image.patch_embeds for e in encoded])
        texts = torch.stack([e.text_embed for e in encoded])
        distances = text_distances(patches, texts).cpu()
        attention = torch.stack([e.image.cls_attention for e in encoded]).cpu()
        return [
            self._select(distances[b], attention[b], sample) for b, sample in enumerate(samples)
        ]

    def compensate(
        self, encoded: list[Encoded], selections: list[Selection | None], samples: list[Sample]
    ) -> list[Compensation | None]:
        """Stage 3. None where nothing was pruned, and everywhere without a compensator."""
        results: list[Compensation | None] = [None] * len(samples)
        pruned = [b for b, selection in enumerate(selections) if selection is not None]
        if self.compensator is None or not pruned:
            return results
        dropped = [encoded[b].image.patch_embeds[selections[b].dropped_idx] for b in pruned]
        questions = [samples[b].question_of_the_method for b in pruned]
        for b, compensation in zip(pruned, self.compensator(dropped, questions)):
            results[b] = compensation
        return results

    def splice(
        self,
        encoded: list[Encoded],
        selections: list[Selection | None],
        compensations: list[Compensation | None],
        samples: list[Sample],
    ) -> list[Spliced]:
        """Stage 4."""
        spliced = []
        for b, sample in enumerate(samples):
            features = encoded[b].image.features
            if selections[b] is not None:
                features = features[selections[b].kept_idx]
            elif sample.no_image:
                features = features[:0]
            ids = self._prompt_ids(sample)
            if compensations[b] is not None:
                caption = compensations[b].chosen_caption
                ids = insert_caption(ids, caption, self.language_model.tokenizer)
            spliced.append(Spliced(ids, self.language_model.embed(ids, features)))
        return spliced

    def generate(self, spliced: list[Spliced], samples: list[Sample]) -> list[Generated]:
        """Stage 5."""
        limits = [sample.max_new_tokens for sample in samples]
        return self.language_model.generate([s.embeds for s in spliced], limits)

    # Images on their own, for callers that ask several batches about one -----------------------

    def preprocess(self, images: list[Image.Image]) -> Tensor:
        """Pixels (B, 3, S, S) float32 on the CPU, as the tower wants them."""
        return process_images(images, self.image_processor, self.image_aspect_ratio)

    @torch.inference_mode()
    def encode_images(self, pixels: Tensor) -> list[EncodedImage]:
        """Encodes preprocessed images; the results may stand in samples in the images' place."""
        return self.tower(pixels)

    # What the stages ask ------------------------------------------------------------------------

    def budget(self, sample: Sample) -> Budget:
        """K and T of a sample, checked."""
        wanted = sample.visual_token_num
        if wanted is None:
            wanted = clip_encoder.VISUAL_TOKEN_NUM
        return resolve_budget(wanted, sample.text_token_num, self.tower.num_patches)

    def check(self, sample: Sample) -> None:
        """Refuses a sample that cannot be answered, before anything is computed.

        Raises:
            UserError: what is wrong with its budget, question or limits.
        """
        budget = self.budget(sample)
        _check_text("question", sample.question)
        _check_text("tower question (by default the first line)", sample.question_of_the_method)
        _check_limits(sample)
        pruned = budget.visual_token_num < self.tower.num_patches
        if pruned and self.compensator is not None:
            self.compensator.check_question(sample.question_of_the_method)
        length = len(self._prompt_ids(sample)) - 1 + budget.visual_token_num
        room = self.language_model.context_length - sample.max_new_tokens
        if length > room:
            raise UserError(
                f"the prompt takes {length} of the LLM's {self.language_model.context_length} "
                f"positions, and {sample.max_new_tokens} are wanted for the answer: shorten the "
                "question, or ask for fewer new tokens"
            )

    def _select(self, distances: Tensor, attention: Tensor, sample: Sample) -> Selection | None:
        """Stage 2 for one sample, from its (N,) distances and attention."""
        budget = self.budget(sample)
        if sample.no_image or budget.visual_token_num == self.tower.num_patches:
            return None
        generator = torch.Generator().manual_seed(sample.seed)
        nearest = self.text_selection == "nearest"
        return select_tokens(distances, attention, budget, generator, nearest)

    def _prompt_ids(self, sample: Sample) -> list[int]:
        return prompt_ids(sample.question, self.language_model.tokenizer)

    def _answer(
        self,
        sample: Sample,
        selection: Selection | None,
        compensation: Compensation | None,
        spliced: Spliced,
        generated: Generated,
    ) -> Answer:
        text = self.language_model.tokenizer.decode(generated.out_ids)
        kept = range(0 if sample.no_image else self.tower.num_patches)
        return Answer(
            text=text.strip(),
            raw_text=text,
            out_ids=generated.out_ids,
            first_logits=generated.first_logits,
            kept_idx=list(kept) if selection is None else selection.kept_idx.tolist(),
            selection=selection,
            compensation=compensation,
            input_ids=spliced.input_ids,
            input_length=len(spliced.embeds),
        )


def _check_text(what: str, text: object) -> None:
    if not isinstance(text, str):
        raise UserError(f"the {what} is {text!r}, not a text")
    if not text.strip():
        raise UserError(f"the {what} is empty: write what is asked about the image")
    if DEFAULT_IMAGE_TOKEN in text:
        raise UserError(
            f"the {what} holds {DEFAULT_IMAGE_TOKEN}: a question is about one image, whose place "
            "in the prompt is set already. Take it out; ask about another image separately"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"the {what} is not valid Unicode ({error.reason}): save it as UTF-8"
        ) from error


def _check_limits(sample: Sample) -> None:
    for name, value, low in (
        ("seed", sample.seed, 0),
        ("max_new_tokens", sample.max_new_tokens, 1),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 2**63:
            raise UserError(
                f"{name} is {value!r}; it must be a whole number from {low} to 2**63 - 1"
            )
