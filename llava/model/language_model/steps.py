"""The steps after a prompt: the LLM reads the last token of each answer, and the next is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from llava.mm_utils import send
from llava.model.cuda import AsyncStopFlag
from llava.model.language_model.layer_session import LayerSession
from llava.model.language_model.prompts import Session


def decode(
    session: Session | LayerSession,
    table: nn.Module,
    tokens: Tensor,
    limits: Sequence[int],
    end_ids: Sequence[int],
    choose: Callable[[Tensor], Tensor],
    tell: Callable[[Tensor, Tensor], Tensor],
    ended: AsyncStopFlag,
) -> Tensor:
    """Returns (B, T) int64, the chosen token at each step, starting with the first ones.

    Tokens after an answer's end have no meaning.

    Args:
        session: has read the prompts.
        table: the LLM's input embeddings.
        tokens: (B,) int64, the first ones.
        limits: B numbers of tokens.
        end_ids: each of them ends an answer.
        choose: returns tokens (B,) for logits (B, V).
        tell: receives each column, and flags of the answers that ended before it; returns the
            flags of those that have ended now.
        ended: of the device.
    """
    ones = torch.ones(len(tokens), 1, device=tokens.device)
    left = send(limits, tokens.device)
    done = torch.zeros_like(tokens, dtype=torch.bool)
    written = [tokens]
    done = tell(tokens, done)
    for _ in range(1, max(limits)):
        left = left - 1
        done = done | (left == 0)
        for end_id in end_ids:
            done = done | (written[-1] == end_id)
        ended.push(done.all())
        if ended.is_set():
            break
        logits = session.forward(table(written[-1])[:, None], ones)
        written.append(choose(logits))
        done = tell(written[-1], done)
    return torch.stack(written, dim=1)
