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

import hashlib
import weakref
from collections.abc import Hashable, Sequence
from dataclasses import replace
from types import SimpleNamespace

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil

from llava.conversation import check_text
from llava.errors import TooLong
from llava.mm_utils import process_images, send
from llava.model.about import About
from llava.model.compensation.compensator import Compensation, Compensator
from llava.model.language_model.llava_llama import Generated, LanguageModel, OnToken, Prompt
from llava.model.memory import Memory
from llava.model.multimodal_encoder import clip_encoder
from llava.model.multimodal_encoder.clip_encoder import ClipTower, EncodedImage
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.prompt import caption_room, prompt_ids
from llava.model.reading import Prefix
from llava.model.sample import Answer, Encoded, Sample, check_limits
from llava.model.side_stream import SideStream
from llava.model.stopwatch import Stopwatch
from llava.model.token_pruning.accm import Selection, select_tokens, text_distances
from llava.model.token_pruning.budget import Budget, resolve_budget


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
        reads_ahead: let the LLM read what comes before the caption while the caption is written;
            None does so on a GPU. On a CPU, which gains nothing by it, it is a pass more.
        about: the model in words.
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
        reads_ahead: bool | None = None,
        about: About = About(),
    ) -> None:
        super().__init__()
        self.tower = tower
        self.clip_tokenizer = clip_tokenizer
        self.image_processor = image_processor
        self.language_model = language_model
        self.compensator = compensator
        self.image_aspect_ratio = image_aspect_ratio
        self.text_selection = text_selection
        self.reads_ahead = reads_ahead
        self.about = about
        self._side = SideStream()

    def without_captions(self) -> LlavaAccm:
        """The same model, every part shared, that gives nothing back for what it prunes."""
        other = LlavaAccm(
            self.tower,
            self.clip_tokenizer,
            self.image_processor,
            self.language_model,
            None,
            self.image_aspect_ratio,
            self.text_selection,
            about=self.about,
        )
        other.training = self.training
        return other

    @torch.inference_mode()
    def answer(
        self,
        samples: list[Sample],
        watch: Stopwatch | None = None,
        on_token: OnToken | None = None,
        memory: Memory | None = None,
    ) -> list[Answer]:
        """Answers any number of samples at once, in float32 each as it would be answered alone.

        Args:
            samples: B of them.
            watch: is told what each stage takes; it may have been told of others before.
            on_token: is told of each new token, as it comes: the sample's place, and the id.
            memory: of the run that these samples belong to; None keeps nothing beyond this call.

        Raises:
            UserError: a sample that cannot be answered; see check.
        """
        if not samples:
            return []
        for sample in samples:
            self.check(sample)
        watch = watch or Stopwatch(self.tower.device)
        memory = Memory() if memory is None else memory
        with watch.stage("encode"):
            encoded = self.encode(samples, memory)
        with watch.stage("prune"):
            selections = self.prune(encoded, samples)
        read = self._read_ahead(encoded, selections, samples, watch, memory)
        compensations = self.compensate(encoded, selections, samples, watch)
        with watch.stage("splice"):
            prompts = self.splice(encoded, selections, compensations, samples)
            self._side.join()
            prompts = [replace(prompt, prefix=read.get(b)) for b, prompt in enumerate(prompts)]
        generated = self.generate(prompts, samples, watch, on_token, memory)
        seconds = watch.seconds()
        return [
            self._answer(*stages, seconds)
            for stages in zip(samples, selections, compensations, prompts, generated)
        ]

    # The five stages ----------------------------------------------------------------------------

    def encode(self, samples: list[Sample], memory: Memory | None = None) -> list[Encoded]:
        """Stage 1. Every image and every question goes through its tower once."""
        memory = Memory() if memory is None else memory
        images = self._encoded_images([sample.image for sample in samples], memory)
        texts = self._encoded_questions(samples)
        return [Encoded(images[id(sample.image)], text) for sample, text in zip(samples, texts)]

    def prune(self, encoded: list[Encoded], samples: list[Sample]) -> list[Selection | None]:
        """Stage 2. None for a sample whose budget is all tokens."""
        results: list[Selection | None] = [None] * len(samples)
        pruned = [b for b, sample in enumerate(samples) if self.is_pruned(sample)]
        if not pruned:
            return results
        patches = torch.stack([encoded[b].image.patch_embeds for b in pruned])
        texts = torch.stack([encoded[b].text_embed for b in pruned])
        attention = torch.stack([encoded[b].image.cls_attention for b in pruned])
        # One way to the CPU for both.
        distances, attention = torch.stack([text_distances(patches, texts), attention]).cpu()
        found = select_tokens(
            distances,
            attention,
            [self.budget(samples[b]) for b in pruned],
            [torch.Generator().manual_seed(samples[b].seed) for b in pruned],
            nearest=self.text_selection == "nearest",
        )
        for b, selection in zip(pruned, found):
            results[b] = selection
        return results

    def compensate(
        self,
        encoded: list[Encoded],
        selections: list[Selection | None],
        samples: list[Sample],
        watch: Stopwatch | None = None,
    ) -> list[Compensation | None]:
        """Stage 3. None where nothing was pruned, and everywhere without a compensator."""
        results: list[Compensation | None] = [None] * len(samples)
        pruned = [b for b, selection in enumerate(selections) if selection is not None]
        if self.compensator is None or not pruned:
            return results
        dropped = [_pick(encoded[b].image.patch_embeds, selections[b].dropped_idx) for b in pruned]
        questions = [samples[b].question_of_the_method for b in pruned]
        shares = [len(selections[b].kept_idx) / self.tower.num_patches for b in pruned]
        for b, compensation in zip(pruned, self.compensator(dropped, questions, watch, shares)):
            results[b] = compensation
        return results

    def splice(
        self,
        encoded: list[Encoded],
        selections: list[Selection | None],
        compensations: list[Compensation | None],
        samples: list[Sample],
    ) -> list[Prompt]:
        """Stage 4. A caption that the LLM has no room for is cut."""
        ids = [self._prompt_ids(*both) for both in zip(samples, compensations)]
        seen = [_seen(*stages) for stages in zip(encoded, selections, samples)]
        embeds = self.language_model.embed(ids, seen)
        names = [_shared_name(*stages) for stages in zip(encoded, selections, samples)]
        return [Prompt(*prompt) for prompt in zip(ids, embeds, names)]

    def generate(
        self,
        prompts: list[Prompt],
        samples: list[Sample],
        watch: Stopwatch | None = None,
        on_token: OnToken | None = None,
        memory: Memory | None = None,
    ) -> list[Generated]:
        """Stage 5."""
        limits = [sample.max_new_tokens for sample in samples]
        decoding = [sample.decoding for sample in samples]
        return self.language_model.generate(prompts, limits, watch, on_token, memory, decoding)

    # Images and questions on their own, for callers that have several batches about one ---------

    def preprocess(self, images: list[Image.Image]) -> Tensor:
        """Pixels (B, 3, S, S) float32 on the CPU, as the tower wants them."""
        return process_images(images, self.image_processor, self.image_aspect_ratio)

    @torch.inference_mode()
    def encode_images(self, pixels: Tensor) -> list[EncodedImage]:
        """Encodes preprocessed images; the results may stand in samples in the images' place."""
        return self.tower(pixels)

    @torch.inference_mode()
    def encode_questions(self, questions: Sequence[str]) -> list[Tensor]:
        """What a sample may have as its text_embed, (P,) float32 of unit length each."""
        ids = [self.clip_tokenizer.encode(q, self.tower.max_text_length) for q in questions]
        return list(self.tower.embed_text(ids))

    # What LLaVA's programs ask -------------------------------------------------------------------

    @property
    def config(self) -> SimpleNamespace:
        """How images and prompts are made for this model, under the names of LLaVA's config."""
        return SimpleNamespace(
            image_aspect_ratio=self.image_aspect_ratio, mm_use_im_start_end=False
        )

    # What the stages ask ------------------------------------------------------------------------

    def budget(self, sample: Sample) -> Budget:
        """K and T of a sample, checked."""
        wanted = sample.visual_token_num
        if wanted is None:
            wanted = clip_encoder.VISUAL_TOKEN_NUM
        return resolve_budget(wanted, sample.text_token_num, self.tower.num_patches)

    def is_pruned(self, sample: Sample) -> bool:
        """Whether the LLM gets to see some of the image's tokens, and not all."""
        return 0 < self._num_seen(sample) < self.tower.num_patches

    def prompt_length(self, sample: Sample) -> int:
        """Positions that a sample's prompt takes in the LLM, with room for a caption if there is
        to be one."""
        room = 0
        if self.compensator is not None and self.is_pruned(sample):
            room = caption_room(self.compensator.max_length, self.language_model.tokenizer)
        return len(self._prompt_ids(sample)) - 1 + self._num_seen(sample) + room

    def check(self, sample: Sample) -> None:
        """Refuses a sample that cannot be answered, before anything is computed.

        Raises:
            UserError: what is wrong with its budget, question, limits or decoding.
        """
        self.budget(sample)
        check_text("question", sample.question)
        for turn in sample.history:
            for text in turn:
                check_text("conversation so far", text)
        check_text("tower question (by default the first line)", sample.question_of_the_method)
        check_limits(sample)
        sample.decoding.check(self.language_model.is_compiled)
        if self.compensator is not None and self.is_pruned(sample):
            self.compensator.check_question(sample.question_of_the_method)
        length = self.prompt_length(sample)
        room = self.language_model.context_length - sample.max_new_tokens
        if length > room:
            raise TooLong(
                f"the prompt takes {length} of the LLM's {self.language_model.context_length} "
                f"positions (with image and caption), and {sample.max_new_tokens} are wanted for "
                "the answer: shorten the question, or ask for fewer new tokens",
                "language model",
                sample.question,
                (length - room) / len(self.language_model.tokenizer.encode(sample.question)),
            )

    def _read_ahead(
        self,
        encoded: list[Encoded],
        selections: list[Selection | None],
        samples: list[Sample],
        watch: Stopwatch,
        memory: Memory,
    ) -> dict[int, Prefix]:
        """Reads all that stands before the caption, of samples that wait for one."""
        waiting = [b for b, selection in enumerate(selections) if selection is not None]
        on_gpu = self.tower.device.type == "cuda"
        wanted = on_gpu if self.reads_ahead is None else self.reads_ahead
        if not wanted or self.compensator is None or not waiting:
            return {}
        parts = [[stage[b] for b in waiting] for stage in (encoded, selections, samples)]
        prompts = self.splice(*parts[:2], [None] * len(waiting), parts[2])
        for prompt in prompts:  # what stays in memory is read on the main stream
            self.language_model.read_system(prompt, memory)
        with self._side.beside(*[p.embeds for p in prompts]), watch.stage("prefill"):
            return dict(zip(waiting, self.language_model.read_images(prompts, memory)))

    def _encoded_images(
        self, images: Sequence[Image.Image | EncodedImage], memory: Memory
    ) -> dict[int, EncodedImage]:
        """Returns the encodings by the id() of the images. Images of the same pixels share one."""
        found = {id(image): image for image in images if isinstance(image, EncodedImage)}
        new = {id(image): image for image in images if id(image) not in found}
        if not new:
            return found
        pixels = dict(zip(new, self.preprocess(list(new.values()))))
        names = {key: _digest(of_image) for key, of_image in pixels.items()}
        known = {name: memory.find(name) for name in names.values()}
        missing = {names[key]: p for key, p in pixels.items() if known[names[key]] is None}
        if missing:
            encoded = self.encode_images(torch.stack(list(missing.values())))
            for name, image in zip(missing, encoded):
                known[name] = image.clone()
                memory.keep(name, known[name])
        return found | {key: known[name] for key, name in names.items()}

    def _encoded_questions(self, samples: Sequence[Sample]) -> list[Tensor | None]:
        """The text embeddings of samples that need one."""
        new = [self.is_pruned(sample) and sample.text_embed is None for sample in samples]
        asked = [sample.question_of_the_method for sample in samples]
        questions = list(dict.fromkeys(q for q, is_new in zip(asked, new) if is_new))
        texts = dict(zip(questions, self.encode_questions(questions))) if questions else {}
        return [
            texts[question] if is_new else sample.text_embed
            for sample, question, is_new in zip(samples, asked, new)
        ]

    def _num_seen(self, sample: Sample) -> int:
        """Returns how many visual tokens the LLM gets to see."""
        return 0 if sample.no_image else self.budget(sample).visual_token_num

    def _prompt_ids(self, sample: Sample, compensation: Compensation | None = None) -> list[int]:
        is_told = compensation is not None and not compensation.is_silent
        caption = compensation.chosen_caption if is_told else None
        most = self.language_model.context_length - sample.max_new_tokens
        most = most + 1 - self._num_seen(sample)  # one id stands for the visual tokens
        tokenizer = self.language_model.tokenizer
        return prompt_ids(sample.question, tokenizer, sample.history, caption, most)

    def _answer(
        self,
        sample: Sample,
        selection: Selection | None,
        compensation: Compensation | None,
        prompt: Prompt,
        generated: Generated,
        seconds: dict[str, float],
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
            input_ids=prompt.input_ids,
            input_length=len(prompt.embeds),
            seconds=seconds,
            decoding=sample.decoding,
        )


def _seen(encoded: Encoded, selection: Selection | None, sample: Sample) -> Tensor:
    """The features (K, C) that the LLM gets to see."""
    features = encoded.image.features
    if selection is not None:
        return _pick(features, selection.kept_idx)
    return features[:0] if sample.no_image else features


def _pick(tokens: Tensor, idx: Tensor) -> Tensor:
    """Some of the tokens (N, C) of an image, by indices on the CPU."""
    return tokens[send(idx, tokens.device)]


def _shared_name(encoded: Encoded, selection: Selection | None, sample: Sample) -> Hashable | None:
    """Names the visual tokens of a sample where the question has no say in them."""
    if sample.no_image:
        return None
    image = weakref.ref(encoded.image)  # what was read of it shall not keep an image in memory
    if selection is None:
        return image
    if len(selection.text_idx) == 0:
        return image, tuple(selection.kept_idx.tolist())
    return None


def _digest(pixels: Tensor) -> bytes:
    """Names an image by its preprocessed pixels (3, S, S) on the CPU."""
    return hashlib.blake2b(pixels.numpy().tobytes()).digest()
