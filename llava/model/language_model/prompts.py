"""The input and output of the LLM: Prompt and Generated."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Union

import torch
from torch import Tensor
from torch.nn import functional as F

from llava.constants import IMAGE_TOKEN_INDEX
from llava.mm_utils import send
from llava.model.kv_cache import DecodeSession
from llava.model.memory import Memory
from llava.model.static_cache import StaticSession

# Prompts whose lengths differ by more are read in separate passes: that much padding costs as much
# as a pass.
MAX_PADDING = 64

OnToken = Callable[[int, int], None]  # the index of a prompt, and the id of its next token
Session = Union[DecodeSession, StaticSession]


@dataclass(frozen=True)
class Prompt:
    """The LLM's input for one sample.

    Attributes:
        input_ids: the prompt's ids with the caption's; IMAGE_TOKEN_INDEX stands for the image.
        embeds: (L, D), L = len(input_ids) - 1 + K.
        shared_image: a key of the K visual tokens where other prompts may have the same, without
            keeping them alive; None where they depend on the question.
        prefix: keys and values of the part that was read already; None where there is none.
        position_ids: (L,) int64; None numbers all positions one by one.
        key_bias: (L,) float32, added to the attention logits of each position's keys; None adds
            nothing.
    """

    input_ids: list[int]
    embeds: Tensor
    shared_image: Hashable | None = None
    prefix: Any = None  # a KVPrefix, or None
    position_ids: Tensor | None = None
    key_bias: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether its positions are numbered one by one, and no key has a bias."""
        return self.position_ids is None and self.key_bias is None

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
    """

    out_ids: list[int]
    first_logits: Tensor


def remember_images(prompts: Sequence[Prompt], session: Session, memory: Memory) -> None:
    """Keeps images that were read just now and may be asked about again, the last of them."""
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


def alike(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Returns the indices of prompts that begin with a prefix, in groups to be read in one pass.

    Those of a group have a similar length; and all of them are plain, or none is.
    """
    groups = [
        [p for p, prompt in enumerate(prompts) if prompt.is_plain is k] for k in (True, False)
    ]
    lengths = [len(prompt.embeds) - prompt.prefix.length for prompt in prompts]
    return [
        [group[place] for place in bucket]
        for group in groups
        for bucket in length_buckets([lengths[place] for place in group])
    ]


def rectified(prompts: Sequence[Prompt], embeds: Tensor) -> tuple[Tensor, ...]:
    """Returns positions (B, L) int64 and key biases (B, L) float32 of what prefixes leave.

    Prompts that are plain have none.

    Args:
        prompts: B of them, with prefixes whose positions are numbered one by one.
        embeds: (B, L, D), the rest of each, padded on the left.
    """
    if prompts[0].is_plain:
        return ()
    positions, biases = [], []
    for prompt in prompts:
        length, start = len(prompt.embeds), prompt.prefix.length
        plain = torch.arange(length) if prompt.position_ids is None else prompt.position_ids
        bias = torch.zeros(length) if prompt.key_bias is None else prompt.key_bias
        padding = (embeds.shape[1] - length + start, 0)
        positions.append(F.pad(plain[start:], padding))
        biases.append(F.pad(bias[start:].to(embeds.device), padding))
    return send(torch.stack(positions), embeds.device), torch.stack(biases)


def length_buckets(lengths: Sequence[int]) -> list[list[int]]:
    """Returns the indices of a batch in groups of similar length, the shortest first."""
    buckets: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not buckets or lengths[place] - lengths[buckets[-1][0]] > MAX_PADDING:
            buckets.append([])
        buckets[-1].append(place)
    return buckets


def tell_row(on_token: OnToken, rows: Sequence[int], place: int, token: int) -> None:
    """Tells the token of an answer that is at that place in some of the rows."""
    on_token(rows[place], token)


def told(on_token: OnToken | None, wanted: int) -> Callable[[Tensor, Tensor], None]:
    """Returns a callback that reports the tokens of that many answers; a no-op if unused."""
    if on_token is None:
        return lambda tokens, done: None

    def tell(tokens: Tensor, done: Tensor) -> None:
        for place, (token, is_done) in enumerate(zip(tokens.tolist(), done.tolist())):
            if place < wanted and not is_done:
                on_token(place, token)

    return tell
