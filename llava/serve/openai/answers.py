"""Responses of the server: chat completions, whole and in pieces, with what they cost and why."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llava.model.compensation.supplement import Supplement
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import views_record
from llava.model.token_pruning.registry import resolved_num
from llava.serve.engines.engine import Prepared, Request, Token
from llava.serve.openai.text import INCOMPLETE

_TOKENS_AROUND = 4  # before a token, with which its text is decoded: blanks, parts of characters


@dataclass(frozen=True)
class Usage:
    """The tokens of a request.

    Attributes:
        prompt: positions of the LLM's input.
        completion: generated tokens.
        kept, dropped: visual tokens that the LLM reads, and that it does not.
        caption: tokens of the text that the LLM was given for those dropped, with its heading.
    """

    prompt: int
    completion: int
    kept: int
    dropped: int
    caption: int

    def record(self) -> dict:
        """Returns OpenAI's usage object, with the parts of the prompt among its details."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {
                "visual_tokens": self.kept,
                "dropped_visual_tokens": self.dropped,
                "caption_tokens": self.caption,
            },
        }


def usage_of(model: LlavaAccm, request: Request, prepared: Prepared, completion: int) -> Usage:
    """Returns the tokens of an answer to a request whose ids were counted."""
    assert request.num_ids is not None
    return Usage(
        prompt=len(prepared.prompt.embeds),
        completion=completion,
        kept=prepared.num_kept,
        dropped=model.count_tokens(request.sample.image) - prepared.num_kept,
        caption=len(prepared.prompt.input_ids) - request.num_ids,
    )


def explanation(model: LlavaAccm, request: Request, prepared: Prepared, seconds: float) -> dict:
    """Returns what was kept of the image and given back.

    Args:
        model: the model that was asked.
        request: the question.
        prepared: the prompt.
        seconds: from the prompt to the end of the answer.
    """
    pruned, given = prepared.pruned, prepared.supplement or Supplement()
    image, prompt = request.sample.image, prepared.prompt
    num_newlines = len(prompt.embeds) - (len(prompt.input_ids) - 1) - prepared.num_kept
    resolved = resolved_num(request.sample, model.count_tokens(image), model.count_tokens())
    return {
        "kept_idx": prepared.kept_idx,
        **views_record(model.backbone.views(image), prepared.kept_idx, num_newlines),
        **({} if resolved is None else {"visual_token_num": resolved}),
        "reasons": [] if pruned is None else list(pruned.reasons),
        "mean_visual_tokens": prepared.num_kept if pruned is None else pruned.mean_tokens,
        "caption": None if prepared.supplement is None else given.told,
        "candidates": [text.strip() for text in given.candidates],
        "scores": list(given.scores),
        "chosen": given.chosen,
        "seconds": prepared.seconds | {"generate": seconds},
    }


def logprobs_of(
    tokens: Sequence[Token], before: Sequence[int], decode: Callable[[list[int]], str]
) -> dict:
    """Returns OpenAI's logprobs object of tokens, whose texts one after the other are the answer's.

    Args:
        tokens: of the answer.
        before: ids of those before them.
        decode: decodes ids to a text.
    """
    ids = [*before, *(token.id for token in tokens)]
    content = []
    for place, token in enumerate(tokens, len(before)):
        around = ids[max(place - _TOKENS_AROUND, 0) : place]
        start = len(decode(around).rstrip(INCOMPLETE))
        all_of_place = [(token.id, token.logprob), *token.top]
        texts = [(decode([*around, i])[start:], logprob) for i, logprob in all_of_place]
        own, *top = [
            {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8"))}
            for text, logprob in texts
        ]
        content.append(own | {"top_logprobs": top})
    return {"content": content, "refusal": None}


@dataclass(frozen=True)
class Completion:
    """The frame of one response.

    Attributes:
        model: its name for clients.
        version: of the server.
        id, created: of the response.
    """

    model: str
    version: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(
        self, text: str, reason: str, usage: Usage, logprobs: dict | None, accm: dict | None
    ) -> dict:
        """Returns a chat completion; the reason says why its answer ended."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": logprobs,
            "finish_reason": reason,
        }
        found = self._frame("chat.completion", [choice]) | {"usage": usage.record()}
        return found if accm is None else found | {"accm": accm}

    def chunk(self, delta: dict, logprobs: dict | None = None, reason: str | None = None) -> dict:
        """Returns a piece of a stream."""
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self._frame("chat.completion.chunk", [choice])

    def usage_chunk(self, usage: Usage) -> dict:
        """Returns the piece of a stream that has the numbers of tokens."""
        return self._frame("chat.completion.chunk", []) | {"usage": usage.record()}

    def _frame(self, kind: str, choices: list[dict]) -> dict:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.version,
            "choices": choices,
        }
