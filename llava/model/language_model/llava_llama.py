"""The LLM: transformers' own Llama, composed; on a GPU with layers that compute the same faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llava.constants import IMAGE_TOKEN_INDEX
from llava.decoding import GREEDY, Decoding
from llava.mm_utils import send
from llava.model.cuda import AsyncStopFlag
from llava.model.kv_cache import DecodeSession, KVPrefix
from llava.model.language_model.beams import search_beams
from llava.model.language_model.compiled import LENGTH_STEP, compiled, fill_up
from llava.model.language_model.fused import fuse_llama
from llava.model.language_model.layer_session import LayerSession
from llava.model.language_model.prompts import (
    Generated,
    OnToken,
    Prompt,
    Session,
    batches_of,
    generated,
    pieces_of,
    remember_images,
    tell_row,
    told,
)
from llava.model.language_model.sampling import TokenChooser
from llava.model.language_model.steps import decode
from llava.model.language_model.tokenizer import Tokenizer
from llava.model.memory import Memory
from llava.model.multimodal_encoder.visual_tokens import Projected
from llava.model.multimodal_projector.images import project_each
from llava.model.static_cache import StaticSessions
from llava.model.stopwatch import Stopwatch
from llava.model.token_pruning.content_words import content_words

# Prompts are padded to a multiple of this number. Matrix products go by tiles: 601 rows take 4%
# longer than 608 (bfloat16, AVX-512), and tensor cores want multiples of 8.
TILE = 8
# On a GPU a few positions take as long as reading the weights, whatever their number. They are
# padded to one of a few lengths, and each length is recorded as a CUDA graph.
GRAPH_TILE, MAX_GRAPH_POSITIONS = 32, 512


class LanguageModel(nn.Module):
    """An LLM with the projector of its visual tokens, and its tokenizer.

    Args:
        llm: transformers' Llama, or another causal LM with the same parts.
        projector: tower features (..., C) to LLM embeddings (..., D).
        tokenizer: of the LLM.
        end_id: ends an answer, or several that do; None takes the tokenizer's end-of-text, -1 lets
            every answer run to its limit.
        graphs: whether to compile the LLM for prompts of a few fixed lengths.

    Attributes:
        end_ids: the ids that end an answer.
    """

    def __init__(
        self,
        llm: PreTrainedModel,
        projector: nn.Module,
        tokenizer: Tokenizer,
        end_id: int | Sequence[int] | None = None,
        graphs: bool = False,
    ) -> None:
        super().__init__()
        self.llm = llm
        self.projector = projector
        self.tokenizer = tokenizer
        end = tokenizer.eos_token_id if end_id is None else end_id
        self.end_ids = (end,) if isinstance(end, int) else tuple(end)
        self.is_compiled = graphs
        self._static = StaticSessions(llm, compiled(llm)) if graphs else None

    def use_cuda_graphs(self) -> None:
        """Turns the LLM's passes into CUDA graphs, unless it is quantised or on several GPUs."""
        devices = set(getattr(self.llm, "hf_device_map", {}).values())
        if len(devices) > 1 or getattr(self.llm, "is_quantized", False):
            return
        if self.llm.device.type == "cuda":
            fuse_llama(self.llm)
        self._static = self._static or StaticSessions(self.llm)

    @property
    def end_id(self) -> int:
        """The first of the ids that end an answer."""
        return self.end_ids[0]

    @property
    def context_length(self) -> int:
        """The number of positions that the LLM was trained for."""
        return self.llm.config.max_position_embeddings

    @property
    def num_layers(self) -> int:
        """The number of the LLM's layers."""
        return self.llm.config.num_hidden_layers

    def embed(
        self, ids: Sequence[list[int]], image_features: Sequence[Tensor | Projected]
    ) -> list[Tensor]:
        """Embeds prompts, with the images' tokens instead of their placeholders.

        Args:
            ids: B lists of token ids with one IMAGE_TOKEN_INDEX each.
            image_features: B tensors (K, C), from the tower, in the order in which the LLM reads
                them, or Projected; prompts that share the tensor share its projection.

        Returns:
            B tensors (len(ids) - 1 + K, D).
        """
        images = project_each(self.project, image_features)
        places = [row.index(IMAGE_TOKEN_INDEX) for row in ids]
        words = [i for row in ids for i in row if i != IMAGE_TOKEN_INDEX]
        texts = self.embed_words(words).split([len(r) - 1 for r in ids])
        return [
            torch.cat([text[:place], images[id(features)], text[place:]])
            for text, place, features in zip(texts, places, image_features)
        ]

    def project(self, features: Tensor) -> Tensor:
        """Returns the LLM's input embeddings (K, D) of visual features (K, C)."""
        weight = next(self.projector.parameters(), self.llm.get_input_embeddings().weight)
        embeds = self.projector(features.to(weight.dtype))
        return embeds.to(self.llm.get_input_embeddings().weight.device)

    def embed_words(self, ids: list[int]) -> Tensor:
        """Returns the LLM's input embeddings (T, D) of token ids, those of the text alone."""
        table = self.llm.get_input_embeddings()
        return table(send(ids, table.weight.device))

    def embed_content_words(self, question: str) -> Tensor:
        """Returns the input embeddings of a question's content words, (T, D).

        They do not include the begin-of-text id.
        """
        return self.embed_words(self.tokenizer.encode_more(content_words(question)))

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: Sequence[int],
        watch: Stopwatch | None = None,
        on_token: OnToken | None = None,
        memory: Memory | None = None,
        decoding: Sequence[Decoding] | None = None,
    ) -> list[Generated]:
        """Generates answers; in float32 each equals the answer to its prompt alone.

        Args:
            prompts: B of them.
            max_new_tokens: B limits.
            watch: receives the times of "prefill" and "decode".
            on_token: receives each new token immediately: the prompt's index, and the id; returns
                True to end that answer. The tokens of a beam search come at its end.
            memory: the run's; None keeps nothing beyond this call.
            decoding: B settings of how tokens are chosen; None takes the likeliest each time.
        """
        watch = watch or Stopwatch(self.llm.device)
        memory = Memory() if memory is None else memory
        how = [GREEDY] * len(prompts) if decoding is None else decoding
        singles = [row for row, each in enumerate(how) if each.num_beams == 1]
        with watch.stage("prefill"):
            begun = self._begin([prompts[row] for row in singles], memory)
        answers: dict[int, Generated] = {}
        for places in batches_of(begun):
            rows = [singles[place] for place in places]
            limits = [max_new_tokens[row] for row in rows]
            choose = TokenChooser([how[row] for row in rows])
            tell = None if on_token is None else partial(tell_row, on_token, rows)
            batch = [begun[place] for place in places]
            answers.update(zip(rows, self._answer(batch, limits, choose, watch, tell, memory)))
        for row in sorted(set(range(len(prompts))).difference(singles)):
            of_row = None if on_token is None else partial(on_token, row)
            with watch.stage("decode"):
                prompt, limit = prompts[row], max_new_tokens[row]
                answers[row] = search_beams(
                    self.llm,
                    prompt.embeds,
                    how[row].num_beams,
                    limit,
                    self.end_ids,
                    of_row,
                    prompt.position_ids,
                )
        return [answers[row] for row in range(len(prompts))]

    @torch.inference_mode()
    def prefill_images(self, prompts: Sequence[Prompt], memory: Memory) -> list[KVPrefix]:
        """Reads prompts up to the last visual token; the text after it need not be known yet."""
        systems = [self.prefill_system(prompt, memory) for prompt in prompts]
        session = DecodeSession(self.llm, self.llm.config, systems, prompts[0].embeds.device)
        images = [slice(prompt.system_length, prompt.image_end) for prompt in prompts]
        session.forward(*pieces_of(prompts, images, TILE))
        lengths = [image.stop - image.start for image in images]
        return [
            session.prefix(row, slice(session.filled - length, session.filled), system)
            for row, (length, system) in enumerate(zip(lengths, systems))
        ]

    @torch.inference_mode()
    def prefill_system(self, prompt: Prompt, memory: Memory) -> KVPrefix:
        """Returns the keys and values of the system prompt, read alone and once per run."""
        key = (prompt.system, None)
        if (known := memory.find(key)) is not None:
            return known
        embeds = prompt.embeds[None, : prompt.system_length]
        session = DecodeSession(self.llm, self.llm.config, [KVPrefix()], embeds.device)
        session.forward(embeds, torch.ones(embeds.shape[:2], device=embeds.device))
        prefix = session.prefix(0, slice(None), KVPrefix())
        memory.keep(key, prefix)
        return prefix

    # Prompts that begin alike -------------------------------------------------------------------

    def _begin(self, prompts: Sequence[Prompt], memory: Memory) -> list[Prompt]:
        """Gives each prompt the longest prefix that is known or that several prompts need."""
        keys = [(p.system, None if p.prefix else p.shared_image) for p in prompts]
        known = {key: memory.find(key) for key in keys if key[1] is not None}
        shared = {
            key: prompt
            for key, prompt in zip(keys, prompts)
            if key in known and known[key] is None and keys.count(key) > 1
        }
        if shared:
            for key, prefix in zip(shared, self.prefill_images(list(shared.values()), memory)):
                known[key] = prefix
                memory.keep(key, prefix)
        return [
            replace(p, prefix=p.prefix or known.get(key) or self.prefill_system(p, memory))
            for key, p in zip(keys, prompts)
        ]

    # One batch -----------------------------------------------------------------------------------

    def _answer(
        self,
        prompts: Sequence[Prompt],
        limits: list[int],
        choose: TokenChooser,
        watch: Stopwatch,
        on_token: OnToken | None,
        memory: Memory,
    ) -> list[Generated]:
        """Generates the answers to prompts of similar length, each with its prefix."""
        wanted = len(prompts)
        if self.is_compiled:
            prompts = fill_up(prompts)
            limits = [*limits, *[1] * (len(prompts) - len(limits))]
        with watch.stage("prefill"):
            rest = [slice(prompt.prefix.length, len(prompt.embeds)) for prompt in prompts]
            step = self._length_step(max(one.stop - one.start for one in rest) * len(rest))
            embeds, mask, position_ids = pieces_of(prompts, rest, step)
            num_new = embeds.shape[1] + max(limits)
            session = self._session(prompts, num_new, embeds.device)
            logits = session.forward(embeds, mask, position_ids)
            if not isinstance(session, LayerSession):
                remember_images(prompts, session, memory)
        with watch.stage("decode"):
            tell = told(on_token, wanted, limits)
            table = self.llm.get_input_embeddings()
            first, ended = choose(logits), AsyncStopFlag(logits.device)
            tokens = decode(session, table, first, limits, self.end_ids, choose, tell, ended)
            found = generated(tokens.tolist()[:wanted], limits, self.end_ids, logits.cpu())
        if isinstance(session, LayerSession):
            found = [replace(one, layer_kept=tuple(k)) for one, k in zip(found, session.kept)]
        return found

    def _length_step(self, num_positions: int) -> int:
        """Returns the number of positions of which pieces of prompts take a multiple."""
        if self.is_compiled:
            return LENGTH_STEP
        on_gpu = self._static is not None and self.llm.device.type == "cuda"
        return GRAPH_TILE if on_gpu and num_positions <= MAX_GRAPH_POSITIONS else TILE

    def _session(
        self, prompts: Sequence[Prompt], num_new: int, device: torch.device
    ) -> Session | LayerSession:
        """Returns a session after the prompts' prefixes, with room for num_new positions."""
        if prompts[0].reading is not None:
            return LayerSession(self.llm, prompts, device)
        prefixes = [prompt.prefix for prompt in prompts]
        if self._static is not None:
            session = self._static.begin(prefixes, num_new, device)
            if session is not None:
                return session
        return DecodeSession(self.llm, self.llm.config, prefixes, device)
