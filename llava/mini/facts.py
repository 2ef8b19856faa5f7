"""Facts of a scene: questions with their answers, and as multiple choice."""

from __future__ import annotations

from dataclasses import dataclass

from llava.mini.scene import Thing

LETTERS = "ABCD"


@dataclass(frozen=True)
class Fact:
    """A question with its answer.

    Attributes:
        kind: existence, color, shape, place, size, count or relation.
        text: the question, without options and answer format.
        answer: a word, "yes" and "no" included.
        subject: the object that it is about; None where there is none or no single one.
        others: wrong answers of the same sort; empty for yes and no.
    """

    kind: str
    text: str
    answer: str
    subject: Thing | None = None
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """A fact as multiple choice.

    Attributes:
        fact: what is asked.
        options: two to four answers, one of them right.
        letter: of the right one.
    """

    fact: Fact
    options: tuple[str, ...]
    letter: str

    @property
    def text(self) -> str:
        """Question and options, without the answer format."""
        lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, self.options)]
        return "\n".join([self.fact.text, *lines])
