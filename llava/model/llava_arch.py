"""The main path: a LLaVA with ACCM, from images and questions to answers in five stages.

    encode      images through CLIP, questions through its text tower
    prune       choose which K of the N visual tokens stay
    compensate  describe the other tokens in a caption
    splice      prompt, kept tokens and caption become the LLM's input
    generate    the LLM answers

Plain LLaVA is the same path with a budget of all tokens: it prunes nothing, and compensates
nothing. The differences between model families are in llava/model/backbones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil

from llava.method import Method
from llava.model.about import About
from llava.model.backbones.backbone import Backbone
from llava.model.backbones.pixels import Pixels
from llava.model.checks import check_outside, check_sample
from llava.model.compensation.supplement import (
    CompensationModule,
    Gives,
    HasSupplement,
    PrunedSample,
)
from llava.model.cuda import SideStream
from llava.model.encoding import encode_distinct, encode_queries
from llava.model.language_model.llava_llama import Generated, LanguageModel, OnToken, Prompt
from llava.model.memory import Memory
from llava.model.multimodal_encoder.visual_tokens import OF_IMAGE, Needs, VisualTokens
from llava.model.sample import Answer, Encoded, Sample
from llava.model.splicing import input_ids, prefill_ahead, splice_prompts
from llava.model.stopwatch import Stopwatch
from llava.model.token_pruning.budget import Budget
from llava.model.token_pruning.pruner import Pruned, Pruning, prune
from llava.model.token_pruning.registry import budget_of, find_pruner, pruning_of, resolved_num


class LlavaAccm(nn.Module):
    """LLaVA with ACCM; ``llava.model.builder.load_pretrained_model`` loads one.

    Args:
        backbone: vision tower and LLM of a model family; see llava.model.backbones.
        compensator: a compensation; None prunes without one.
        text_selection: "farthest" (ACCM) or "nearest": which patches the question picks.
        reads_ahead: whether the LLM reads the prompt up to the caption while the caption is
            written; None does so on a GPU without CUDA graphs. On a CPU it gains nothing and costs
            one more pass.
        about: a description of the model.
    """

    def __init__(
        self,
        backbone: Backbone,
        compensator: CompensationModule | None,
        text_selection: str = "farthest",
        reads_ahead: bool | None = None,
        about: About = About(),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.compensator = compensator
        self.text_selection = text_selection
        self.reads_ahead = reads_ahead
        self.about = about
        self.side = SideStream()
        self.has_graphs = False

    def without_captions(self) -> LlavaAccm:
        """Returns a model that shares all parts with this one but has no compensator."""
        return self.with_compensator(None)

    def with_compensator(self, compensator: CompensationModule | None) -> LlavaAccm:
        """Returns a model that shares all parts with this one except the compensator."""
        other = LlavaAccm(self.backbone, compensator, self.text_selection, about=self.about)
        other.training, other.has_graphs = self.training, self.has_graphs
        return other

    @property
    def writes(self) -> str:
        """What its compensation writes, such as "a caption"; empty if it uses no words."""
        return "" if self.compensator is None else self.compensator.writes

    def use_cuda_graphs(self) -> LlavaAccm:
        """Turns the passes of all parts into CUDA graphs on a GPU; returns the model."""
        self.tower.use_cuda_graphs()
        if self.backbone.side is not None:
            self.backbone.side.clip.use_cuda_graphs()
        self.language_model.use_cuda_graphs()
        if self.compensator is not None:
            self.compensator.use_cuda_graphs()
        self.has_graphs = True
        return self

    @torch.inference_mode()
    def answer(
        self,
        samples: list[Sample],
        watch: Stopwatch | None = None,
        on_token: OnToken | None = None,
        memory: Memory | None = None,
    ) -> list[Answer]:
        """Returns the answers to any number of samples; in float32 none depends on the others.

        Args:
            samples: B of them.
            watch: receives the time of each stage; it may already hold earlier times.
            on_token: receives each new token immediately: the sample's index, and the id; returns
                True to end that answer.
            memory: the memory of the run; None keeps nothing beyond this call.

        Raises:
            UserError: a sample that cannot be answered; see check.
        """
        if not samples:
            return []
        watch = watch or Stopwatch(self.tower.device)
        memory = Memory() if memory is None else memory
        starts_slowly = self.tower.device.type == "cuda" and not self.has_graphs
        reads_ahead = starts_slowly if self.reads_ahead is None else self.reads_ahead
        pruned, given, prompts = self.stages(samples, watch, memory, reads_ahead)
        generated = self.generate(prompts, samples, watch, on_token, memory)
        seconds = watch.seconds()
        stages = zip(samples, pruned, given, prompts, generated)
        return [self._answer(*one, seconds) for one in stages]

    @torch.inference_mode()
    def prompts(self, samples: list[Sample], watch: Stopwatch | None = None) -> list[Prompt]:
        """Returns the LLM's input for B samples: stages 1 to 4, for an engine that generates.

        Raises:
            UserError: a sample that cannot be answered; see check.
        """
        if not samples:
            return []
        for sample in samples:
            check_outside(self, sample)
        watch = watch or Stopwatch(self.tower.device)
        prompts = self.stages(samples, watch, Memory(), reads_ahead=False)[-1]
        # The key of an image is valid only while its encoding exists, which ends here.
        return [replace(prompt, shared_image=None) for prompt in prompts]

    @torch.inference_mode()
    def stages(
        self, samples: list[Sample], watch: Stopwatch, memory: Memory, reads_ahead: bool = False
    ) -> tuple[list[Pruned | None], list[HasSupplement | None], list[Prompt]]:
        """Returns the results of stages 2 to 4 for samples."""
        for sample in samples:
            self.check(sample)
        with watch.stage("encode"):
            encoded = self.encode(samples, memory, watch)
        with watch.stage("prune"):
            pruned = self.prune(encoded, samples)
        prefilled = {}
        if reads_ahead:
            prefilled = prefill_ahead(self, encoded, pruned, samples, watch, memory)
        compensations = self.compensate(encoded, pruned, samples, watch)
        with watch.stage("splice"):
            prompts = self.splice(encoded, pruned, compensations, samples)
            self.side.join()
            prompts = [replace(p, prefix=prefilled.get(b)) for b, p in enumerate(prompts)]
        return pruned, compensations, prompts

    # The five stages ----------------------------------------------------------------------------

    def encode(
        self,
        samples: list[Sample],
        memory: Memory | None = None,
        watch: Stopwatch | None = None,
    ) -> list[Encoded]:
        """Encodes (stage 1): every image and every question passes through its tower once."""
        memory = Memory() if memory is None else memory
        needs = self.needs(samples)
        images = encode_distinct(self, [sample.image for sample in samples], memory, needs, watch)
        queries = encode_queries(self, samples)
        return [Encoded(images[id(sample.image)], query) for sample, query in zip(samples, queries)]

    def prune(self, encoded: list[Encoded], samples: list[Sample]) -> list[Pruned | None]:
        """Prunes (stage 2); gives None if the LLM reads all tokens of a sample, or none."""
        results: list[Pruned | None] = [None] * len(samples)
        places = [b for b, sample in enumerate(samples) if self.is_pruned(sample)]
        found = prune(
            [encoded[b].image for b in places],
            [encoded[b].query for b in places],
            [self.pruning(samples[b]) for b in places],
            [torch.Generator().manual_seed(samples[b].seed) for b in places],
        )
        for b, pruned in zip(places, found):
            results[b] = pruned
        return results

    def compensate(
        self,
        encoded: list[Encoded],
        pruned: list[Pruned | None],
        samples: list[Sample],
        watch: Stopwatch | None = None,
    ) -> list[HasSupplement | None]:
        """Compensates (stage 3); gives None if nothing was pruned, or without a compensator."""
        results: list[HasSupplement | None] = [None] * len(samples)
        read = {
            b: PrunedSample(of.image, one, samples[b].text_query, of.query)
            for b, (of, one) in enumerate(zip(encoded, pruned))
            if one is not None and len(one.described_idx)
        }
        if self.compensator is not None and read:
            for b, found in zip(read, self.compensator(list(read.values()), watch)):
                results[b] = found
        return results

    def splice(
        self,
        encoded: Sequence[Encoded],
        pruned: Sequence[Pruned | None],
        compensations: Sequence[HasSupplement | None],
        samples: Sequence[Sample],
    ) -> list[Prompt]:
        """Splices the LLM's input (stage 4); a text that the LLM has no room for is cut."""
        return splice_prompts(self, encoded, pruned, compensations, samples)

    def generate(
        self,
        prompts: list[Prompt],
        samples: list[Sample],
        watch: Stopwatch | None = None,
        on_token: OnToken | None = None,
        memory: Memory | None = None,
    ) -> list[Generated]:
        """Generates the answers (stage 5)."""
        limits = [sample.max_new_tokens for sample in samples]
        decoding = [sample.decoding for sample in samples]
        return self.language_model.generate(prompts, limits, watch, on_token, memory, decoding)

    # Images and questions on their own, for callers that have several batches about one ---------

    def preprocess(self, images: list[Image.Image]) -> Sequence[Pixels]:
        """Returns the tower's input for B images, float32 on the CPU; see Backbone."""
        return self.backbone.preprocess(images)

    @torch.inference_mode()
    def encode_images(
        self, pixels: Sequence[Pixels], needs: Needs = OF_IMAGE, watch: Stopwatch | None = None
    ) -> list[VisualTokens]:
        """Encodes preprocessed images; samples accept the results in place of images.

        Args:
            pixels: B of them.
            needs: the values to compute in addition to the features; see needs.
            watch: receives the time of a side tower, if there is one.
        """
        return self.backbone.encode_images(pixels, needs, watch)

    @torch.inference_mode()
    def encode_questions(self, questions: Sequence[str]) -> list[Tensor]:
        """Encodes questions as the samples' text_embed, (P,) float32 of unit length each."""
        return self.backbone.encode_questions(questions)

    # For LLaVA's programs ------------------------------------------------------------------------

    @property
    def config(self) -> SimpleNamespace:
        """The settings for images and prompts of this model, under the names of LLaVA's config."""
        ratio = self.backbone.image_aspect_ratio
        return SimpleNamespace(image_aspect_ratio=ratio, mm_use_im_start_end=False)

    @property
    def tower(self) -> Any:
        """The backbone's vision tower; CLIP's has a text side too."""
        return self.backbone.tower

    @property
    def clip_tokenizer(self) -> Any:
        """The tokenizer of CLIP's text side; None where the model has no CLIP."""
        return self.backbone.clip_tokenizer

    @property
    def image_processor(self) -> CLIPImageProcessorPil:
        """The backbone's image processor."""
        return self.backbone.image_processor

    @property
    def language_model(self) -> LanguageModel:
        """The backbone's projector and LLM."""
        return self.backbone.language_model

    # For the stages -----------------------------------------------------------------------------

    def count_tokens(self, image: object = None) -> int:
        """Returns the number N of visual tokens of an image before pruning; None: of any image."""
        return self.backbone.count_tokens(image)

    def budget(self, sample: Method) -> Budget:
        """Returns K and T of a sample, checked."""
        num_tokens = self.count_tokens(getattr(sample, "image", None))
        return budget_of(sample, num_tokens, self.count_tokens())

    def is_pruned(self, sample: Method) -> bool:
        """Returns whether the LLM reads some, but not all, of the image's tokens."""
        return 0 < self._num_seen(sample) < self.count_tokens(getattr(sample, "image", None))

    def needs(self, asked: Sequence[Method]) -> Needs:
        """Returns the values that the towers must compute for samples or requests."""
        needs = Needs.NOTHING
        for method in asked:
            if self.is_pruned(method):
                needs |= find_pruner(method.pruner).needs
                needs |= Needs.NOTHING if self.compensator is None else self.compensator.needs
        return needs

    def reads_question(self, sample: Sample) -> bool:
        """Returns whether the choice of the LLM's visual tokens depends on the question."""
        return self.is_pruned(sample) and find_pruner(sample.pruner).reads_question

    def prompt_length(self, sample: Sample) -> int:
        """Returns the positions of a sample's prompt in the LLM, with room for a caption if any."""
        room = 0
        if self.compensator is not None and self.is_pruned(sample):
            room = self.compensator.room(sample.text_query, self.language_model.tokenizer)
        return len(input_ids(self, sample)) - 1 + self.most_seen(sample) + room

    def check(self, sample: Sample) -> None:
        """Refuses a sample that cannot be answered, before anything is computed.

        Raises:
            UserError: what is wrong with its budget, question, limits or decoding.
        """
        check_sample(self, sample)

    def pruning(self, sample: Method) -> Pruning:
        """Returns how a sample's image is to be pruned; see pruning_of."""
        image = getattr(sample, "image", None)
        nearest, num_layers = self.text_selection == "nearest", self.language_model.num_layers
        num_tokens, most = self.count_tokens(image), self.count_tokens()
        views = self.backbone.views(image)
        return pruning_of(sample, num_tokens, nearest, num_layers, most, views)

    def _num_seen(self, sample: Method) -> int:
        """Returns the number of visual tokens that the LLM reads."""
        return 0 if sample.sees_nothing else self.budget(sample).visual_token_num

    def most_seen(self, sample: Method) -> int:
        """Returns the largest number of positions that an image may take in the LLM."""
        image = getattr(sample, "image", None)
        most = self._num_seen(sample)
        if self.is_pruned(sample):
            most = self.count_tokens(image)
            if self.compensator is None or Gives.POSITION_IDS not in self.compensator.gives:
                most = self.pruning(sample).most_tokens(most)
        return self.backbone.most_positions(most, image)

    def _answer(
        self,
        sample: Sample,
        pruned: Pruned | None,
        compensation: HasSupplement | None,
        prompt: Prompt,
        generated: Generated,
        seconds: dict[str, float],
    ) -> Answer:
        text = self.language_model.tokenizer.decode(generated.out_ids)
        num_tokens = self.count_tokens(sample.image)
        kept = range(0 if sample.sees_nothing else num_tokens)
        return Answer(
            text=text.strip(),
            raw_text=text,
            out_ids=generated.out_ids,
            first_logits=generated.first_logits,
            kept_idx=list(kept) if pruned is None else pruned.kept_idx.tolist(),
            pruned=pruned,
            compensation=compensation,
            input_ids=prompt.input_ids,
            input_length=len(prompt.embeds),
            seconds=seconds,
            decoding=sample.decoding,
            layer_kept=generated.layer_kept,
            views=self.backbone.views(sample.image),
            resolved_num=resolved_num(sample, num_tokens, self.count_tokens()),
        )
