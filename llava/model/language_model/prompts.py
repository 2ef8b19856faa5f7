"""The input and output of the LLM as records: Prompt and Generated.

The text of a prompt is made in llava.conversation, its token ids in llava.model.prompt_ids.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Union

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.constants import IMAGE_TOKEN_INDEX
from llava.mm_utils import pad_left, send
from llava.model.kv_cache import DecodeSession
from llava.model.memory import Memory
from llava.model.static_cache import StaticSession
from llava.model.token_pruning.layer_pruner import LayerKept, LayerPlan

# Prompts whose lengths differ by more are read in separate passes, because so much padding costs as
# much as a pass.
MAX_PADDING = 64

# Receives the index of a prompt and the id of its next token; True ends its answer there.
OnToken = Callable[[int, int], Union[bool, None]]
Session = Union[DecodeSession, StaticSession]


@dataclass(frozen=True, eq=False)
class Reading:
    """How the LLM's layers read a prompt that is read layer by layer.

    Attributes:
        kept_idx: (K,) int64, the indices of the visual tokens that the first layer reads.
        plan: how the layers drop more of them; None if they drop none.
        position_ids: (K,) int64, the visual tokens' positions among num_positions, after which the
            text continues; None numbers them consecutively.
        num_positions: the number of positions of the image.
        key_bias: (K,) float32, added to the attention logits of the visual tokens in every layer;
            None adds nothing.
    """

    kept_idx: Tensor
    plan: LayerPlan | None = None
    position_ids: Tensor | None = None
    num_positions: int = 0
    key_bias: Tensor | None = None


@dataclass(frozen=True)
class Prompt:
    """The LLM's input for one sample.

    Attributes:
        input_ids: the prompt's ids with the caption's; IMAGE_TOKEN_INDEX stands for the image.
        embeds: (L, D), L = len(input_ids) - 1 + K, or more where a family puts
            something between the K visual tokens.
        shared_image: a key of the K visual tokens if other prompts may have the same ones, which
            does not keep them in memory; None if they depend on the question.
        prefix: keys and values of the part that was read already; None if there is none.
        reading: how the layers read it if they are called one by one; None: as in transformers.
        position_ids: (3, L) int64 on the CPU, positions of M-RoPE; None where they count 0, 1, 2.
        num_visual: K, without what a model family puts between the visual tokens.
    """

    input_ids: list[int]
    embeds: Tensor
    shared_image: Hashable | None = None
    prefix: Any = None  # a KVPrefix, or None
    reading: Reading | None = None
    position_ids: Tensor | None = None
    num_visual: int = 0

    @property
    def system_length(self) -> int:
        """The number of positions before the image."""
        return self.input_ids.index(IMAGE_TOKEN_INDEX)

    @property
    def image_end(self) -> int:
        """The number of positions up to the image's last."""
        return self.system_length + len(self.embeds) - len(self.input_ids) + 1

    @property
    def system(self) -> Hashable:
        """A key of the part before the image."""
        return tuple(self.input_ids[: self.system_length])


@dataclass(frozen=True)
class Generated:
    """One answer.

    Attributes:
        out_ids: new token ids, the end-of-text id included if generated.
        first_logits: (V,) float32 on the CPU, the logits of the first token.
        layer_kept: the visual tokens that remained inside the LLM, by rising layers.
    """

    out_ids: list[int]
    first_logits: Tensor
    layer_kept: tuple[LayerKept, ...] = ()


def generated(
    tokens: Sequence[list[int]], limits: Sequence[int], end_ids: Sequence[int], logits: Tensor
) -> list[Generated]:
    """Returns B answers of chosen tokens, each up to its limit or its end.

    Args:
        tokens: B lists.
        limits: B numbers of tokens.
        end_ids: each of them ends an answer.
        logits: (B, V) float32 on the CPU, of the first tokens.
    """
    rows = [ids[:limit] for ids, limit in zip(tokens, limits)]
    lengths = (next((n for n, i in enumerate(ids, 1) if i in end_ids), len(ids)) for ids in rows)
    return [Generated(ids[:length], first) for ids, length, first in zip(rows, lengths, logits)]


def pieces_of(
    prompts: Sequence[Prompt], spans: Sequence[slice], multiple: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns pieces of B prompts as a session reads them: (B, L, D), padded on the left.

    Args:
        prompts: B of them.
        spans: the positions of each that are a piece.
        multiple: see pad_left.

    Returns:
        The embeddings, their mask (B, L), and positions of M-RoPE (3, B, L); None without these.
    """
    embeds, mask = pad_left([p.embeds[span] for p, span in zip(prompts, spans)], multiple)
    places = [
        p.position_ids[:, span] for p, span in zip(prompts, spans) if p.position_ids is not None
    ]
    if not places:
        return embeds, mask, None
    rows = [F.pad(place, (embeds.shape[1] - place.shape[1], 0)) for place in places]
    return embeds, mask, send(torch.stack(rows, dim=1), embeds.device)


def remember_images(prompts: Sequence[Prompt], session: Session, memory: Memory) -> None:
    """Keeps prefixes of images that were just read and may be needed again."""
    room = memory.limit
    for row, prompt in reversed(list(enumerate(prompts))):
        if prompt.shared_image is None or prompt.prefix.length != prompt.system_length:
            continue
        start = session.filled - len(prompt.embeds) + prompt.prefix.length
        image = slice(start, start + prompt.image_end - prompt.system_length)
        room -= prompt.prefix.nbytes * prompt.image_end // prompt.system_length
        if room < 0:
            break
        memory.keep((prompt.system, prompt.shared_image), session.prefix(row, image, prompt.prefix))


def batches_of(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Returns the indices of prompts to read together: of similar length and the same reading."""
    found = []
    for is_layered in (False, True):
        rows = [row for row, p in enumerate(prompts) if (p.reading is not None) == is_layered]
        lengths = [len(prompts[row].embeds) - prompts[row].prefix.length for row in rows]
        found += [[rows[place] for place in places] for places in length_buckets(lengths)]
    return found


def length_buckets(lengths: Sequence[int]) -> list[list[int]]:
    """Returns the indices of a batch in groups of similar length, the shortest first."""
    buckets: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not buckets or lengths[place] - lengths[buckets[-1][0]] > MAX_PADDING:
            buckets.append([])
        buckets[-1].append(place)
    return buckets


def tell_row(on_token: OnToken, rows: Sequence[int], place: int, token: int) -> bool | None:
    """Reports a token of an answer, whose row is at that place in a list of rows."""
    return on_token(rows[place], token)


def told(
    on_token: OnToken | None, wanted: int, limits: list[int]
) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns a callback that reports the tokens of that many answers; a no-op if unused.

    It receives the next tokens (B,) and which answers had ended before, (B,) bool, and returns
    which have ended now. The limit of an answer that on_token ends becomes the length that it has.
    """
    if on_token is None:
        return lambda tokens, done: done
    lengths = [0] * wanted

    def tell(tokens: Tensor, done: Tensor) -> Tensor:
        ended = done.tolist()
        for place, token in enumerate(tokens.tolist()[:wanted]):
            if ended[place]:
                continue
            lengths[place] += 1
            if on_token(place, token):
                ended[place], limits[place] = True, lengths[place]
        return send(ended, done.device)

    return tell
