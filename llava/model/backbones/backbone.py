"""The protocol of a model family: only the differences between families."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from llava.model.backbones.pixels import Pixels
from llava.model.compensation.supplement import Supplement
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.multimodal_encoder.clip_encoder import ClipTower
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.multimodal_encoder.side_tower import SideTower
from llava.model.multimodal_encoder.visual_tokens import OF_IMAGE, Needs, View, VisualTokens
from llava.model.sample import Sample
from llava.model.stopwatch import Stopwatch


class Backbone(Protocol):
    """A vision tower and an LLM, and how a family feeds images and questions to them.

    The pipeline (llava.model.llava_arch) prunes, compensates and splices in between; it learns the
    number of visual tokens and their grids only here. An implementation is an nn.Module.

    Attributes:
        tower: encodes images.
        clip: CLIP, whose text side encodes questions for the pruners that compare them with
            patches; None if the family has none.
        clip_tokenizer: of CLIP's text side.
        side: the tower beside the model's own of which that CLIP is a part; None if there is none.
        gives: the values that it can compute of images and questions.
        embed_dim: the width of the patches from which captions are written.
        has_mrope: whether tokens have positions of M-RoPE; see position_ids.
        images_differ: whether images differ in their number of visual tokens.
        image_processor: images to pixels.
        image_aspect_ratio: "pad", "anyres" or None; see square_view.
        language_model: projector and LLM.
    """

    tower: Any  # a ClipTower, or another vision tower with these: device, body, use_cuda_graphs
    clip: ClipTower | None
    clip_tokenizer: ClipTokenizer | None
    side: SideTower | None
    gives: Needs
    embed_dim: int
    has_mrope: bool
    images_differ: bool
    image_processor: Any
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

    def picture(self, image: Image.Image, side: int) -> Image.Image:
        """Returns an RGB image as the first of its grids shows it, at most ``side`` pixels wide."""

    def preprocess(self, images: list[Image.Image]) -> Sequence[Pixels]:
        """Returns the tower's input for B images, float32 on the CPU, an item for each."""

    def encode_images(
        self, pixels: Sequence[Pixels], needs: Needs = OF_IMAGE, watch: Stopwatch | None = None
    ) -> list[VisualTokens]:
        """Encodes preprocessed images, with the needed values in addition to the features.

        Args:
            pixels: B of them.
            needs: the values.
            watch: receives the time of a tower beside the model's own, if there is one.
        """

    def encode_questions(self, questions: Sequence[str]) -> list[Tensor]:
        """Encodes questions, cut to the text tower's length, as (P,) float32 of unit length."""

    def embed_segments(self, question: str) -> Tensor:
        """Encodes a whole question in segments, (M, P) float32, not normalised."""

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
        """Returns the largest number of positions that K tokens of an image take in the LLM.

        That is at least K' of arrange, and more where the text after the image continues behind
        the places of dropped tokens. None: of any image.
        """

    def position_ids(
        self, input_ids: Sequence[int], kept_idx: Tensor, image: VisualTokens
    ) -> Tensor | None:
        """Returns the positions of a prompt in M-RoPE, (3, L) int64; None: they count 0, 1, 2.

        Args:
            input_ids: the prompt, with one IMAGE_TOKEN_INDEX for the L - len(input_ids) + 1 tokens.
            kept_idx: (K,) int64 on the CPU, the image's tokens that the LLM reads.
            image: the image.
        """

    def prompt_ids(self, sample: Sample, given: Supplement, most: int) -> list[int]:
        """Returns a sample's prompt in the family's template, one IMAGE_TOKEN_INDEX in it.

        Args:
            sample: the question and the turns before it.
            given: the supplement, whose text is placed into the template.
            most: the largest number of ids; a longer text is cut.
        """
