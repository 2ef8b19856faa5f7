"""A conversation about one image, for any user interface."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from llava.model.llava_arch import LlavaAccm
    from llava.model.sample import Answer, Sample

NO_WORDS = (
    "the model ended its answer before a word, as it may where it does not know the question's "
    "language or words: ask in others, or in English"
)


@dataclass
class Chat:
    """An image, and the turns about it so far.

    Attributes:
        model: the model that answers.
        asked: the RGB image, and how questions about it are asked; its own question is not asked.
        asks_alone: whether each question is asked without the turns before it.
        turns: questions and answers.
        last: the last answer with all its details.
    """

    model: LlavaAccm
    asked: Sample
    asks_alone: bool = False
    turns: list[tuple[str, str]] = field(default_factory=list)
    last: Answer | None = None

    def show(self, image: Image.Image, image_name: str | None = None) -> None:
        """Starts again, about another image."""
        self.asked = replace(self.asked, image=image, image_name=image_name)
        self.clear()

    def clear(self) -> None:
        """Starts again, about the same image."""
        self.turns, self.last = [], None

    def ask(self, question: str, on_text: Callable[[str], None] | None = None) -> Answer:
        """Answers the next question; a failure leaves the conversation unchanged.

        Args:
            question: text of the question.
            on_text: receives the answer piece by piece, as it is decoded.

        Raises:
            UserError: it cannot be answered.
        """
        history = () if self.asks_alone else tuple(self.turns)
        sample = replace(self.asked, question=question, history=history)
        pieces = TextPieces(
            self.model.language_model.tokenizer.decode, on_text or (lambda text: None)
        )
        (answer,) = self.model.answer([sample], on_token=on_text and pieces.add)
        if answer.text:  # an empty text is no turn
            self.turns.append((question, answer.text))
        self.last = answer
        return answer


class TextPieces:
    """A decoder of one answer's token ids to pieces of its text.

    Args:
        decode: decodes ids to a text.
        on_text: receives each piece.
    """

    def __init__(self, decode: Callable[[list[int]], str], on_text: Callable[[str], None]) -> None:
        self._decode = decode
        self._on_text = on_text
        self._ids: list[int] = []
        self._told = ""

    def add(self, _: int, token: int) -> None:
        """Adds one id; a character of several ids waits until it is complete."""
        self._ids.append(token)
        text = self._decode(self._ids).lstrip()
        if text.startswith(self._told) and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            self._on_text(text[len(self._told) :])
            self._told = text


def why(answer: Answer, num_patches: int) -> str:
    """Returns an answer's details: tokens by reason and view, candidates, scores, stage times."""
    lines = [f"{len(answer.kept_idx)} of {num_patches} visual tokens kept"]
    if answer.pruned is not None:
        counts = Counter(answer.pruned.reasons)
        lines[0] += ": " + ", ".join(f"{reason} {n}" for reason, n in counts.most_common())
    if record := answer.views_record:
        views = ", ".join(f"{view['kept']} of {view['tokens']}" for view in record["views"])
        newlines = record["newline_tokens"]
        lines.append(f"by view, the base view first: {views}; newline tokens: {newlines}")
    if answer.supplement is not None and answer.supplement.candidates:
        lines.append("candidates (score, * chosen):")
        for caption, score, chosen in answer.supplement.shown:
            number = "" if score is None else f"{score:.3f}  "
            lines.append(f"  {'*' if chosen else ' '} {number}{caption}")
    times = [f"{stage} {1000 * seconds:.0f}" for stage, seconds in answer.seconds.items()]
    total = 1000 * sum(answer.seconds.values())
    lines.append(f"ms: {', '.join(times)}; together {total:.0f}")
    return "\n".join(lines)
