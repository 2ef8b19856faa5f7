"""The protocol of a model family: only the differences between families."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil

from llava.model.backbones.pixels import Pixels
from llava.model.compensation.supplement import Supplement
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.multimodal_encoder.visual_tokens import OF_IMAGE, Needs, View, VisualTokens
from llava.model.sample import Sample


class Backbone(Protocol):
    """A vision tower and an LLM, and how a family feeds images and questions to them.

    The pipeline (llava.model.llava_arch) prunes, compensates and splices in between; it learns the
    number of visual tokens and their grids only here. An implementation is an nn.Module.

    Attributes:
        tower: encodes images, and questions for the pruners that compare them with patches.
        clip_tokenizer: of the tower's text side.
        image_processor: images to pixels.
        image_aspect_ratio: "pad", or None; see process_images.
        language_model: projector and LLM.
    """

    tower: ClipTower
    clip_tokenizer: ClipTokenizer
    image_processor: CLIPImageProcessorPil
    image_aspect_ratio: str | None
    language_model: LanguageModel

    def with_language_model(self, language_model: LanguageModel) -> Backbone:
        """Returns a backbone that shares all parts with this one except the LLM."""

    def count_tokens(self, image: object = None) -> int:
        """Returns the number N of visual tokens of an image before pruning.

        Of None it returns the largest N that any image has.
        """

    def views(self, image: object = None) -> tuple[View, ...]:
        """Returns the grids of an image's tokens, by its size; None: as for count_tokens."""

    def preprocess(self, images: list[Image.Image]) -> Sequence[Pixels]:
        """Returns the tower's input for B images, float32 on the CPU, an item for each."""

    def encode_images(
        self, pixels: Sequence[Pixels], needs: Needs = OF_IMAGE
    ) -> list[VisualTokens]:
        """Encodes preprocessed images, with the needed values in addition to the features."""

    def encode_questions(self, questions: Sequence[str]) -> list[Tensor]:
        """Encodes questions, cut to the text tower's length, as (P,) float32 of unit length."""

    def embed_segments(self, question: str) -> Tensor:
        """Encodes a whole question in segments, (M, P) float32, not normalised."""

    def embed_content_words(self, question: str) -> Tensor:
        """Returns the LLM's input embeddings of a question's content words, (T, D)."""

    def arrange(self, tokens: Tensor, kept_idx: Tensor, image: VisualTokens) -> Tensor:
        """Returns what the LLM reads of an image: its kept tokens, and what is put between them.

        Args:
            tokens: (K, D), the kept tokens after the projector, in the order of kept_idx.
            kept_idx: (K,) int64 on the CPU.
            image: the image.

        Returns:
            (K', D), K' at least K.
        """

    def most_positions(self, num_tokens: int, image: object = None) -> int:
        """Returns the largest K' of arrange for K tokens of an image; None: of any image."""

    def prompt_ids(self, sample: Sample, given: Supplement, most: int) -> list[int]:
        """Returns a sample's prompt in the family's template, one IMAGE_TOKEN_INDEX in it.

        Args:
            sample: the question and the turns before it.
            given: the supplement, whose text is placed into the template.
            most: the largest number of ids; a longer text is cut.
        """
