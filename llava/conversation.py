"""Prompt templates of LLaVA, which turn a conversation into one string.

Only the templates of LLaVA-1.5, LLaVA-NeXT and their evaluation are here. LLaVA-1.5 was tuned, and
ACCM is evaluated, with ``vicuna_v1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llava.constants import DEFAULT_IMAGE_TOKEN
from llava.errors import UserError, quoted

DEFAULT_TEMPLATE = "vicuna_v1"


@dataclass(frozen=True)
class Conversation:
    """A template and the turns so far.

    Attributes:
        system: the text before the first turn.
        roles: names of the two speakers, question first.
        separators: the texts after messages at even and at odd places.
        openings: the texts before messages at even and at odd places.
        name_turns: whether "ROLE: " precedes a message.
        messages: (speaker 0 or 1, text) pairs; a text of None asks for an answer.
    """

    system: str
    roles: tuple[str, str]
    separators: tuple[str, str | None]
    name_turns: bool = True
    openings: tuple[str, str] = ("", "")
    messages: tuple[tuple[int, str | None], ...] = ()

    def append(self, speaker: int, text: str | None) -> Conversation:
        """Returns a new conversation with one more message; this one stays unchanged."""
        return replace(self, messages=self.messages + ((speaker, text),))

    def prompt(self) -> str:
        """Returns the whole conversation as a string for the tokenizer.

        Raises:
            UserError: the template has no separator for a message at this place.
        """
        text = self.system + (self.separators[0] if self.system else "")
        for place, (speaker, message) in enumerate(self.messages):
            name = self.roles[speaker]
            if message is None:
                text += f"{name}:" if self.name_turns else ""
                continue
            separator = self.separators[place % 2]
            if separator is None:
                raise UserError(
                    "this conversation template holds a single turn: it has no end mark for an "
                    "answer. Use vicuna_v1 for conversations of several turns."
                )
            said = f"{name}: {message}" if self.name_turns else message
            text += self.openings[place % 2] + said + separator
        return text


def _assistant(reader: str) -> str:
    return (
        f"A chat between a curious {reader} and an artificial intelligence assistant. The "
        f"assistant gives helpful, detailed, and polite answers to the {reader}'s questions."
    )


# The example that opens every v0 conversation, verbatim as in the template.
_V0_QUESTION = "What are the key differences between renewable and non-renewable energy sources?"
_V0_ANSWER = (
    "Renewable energy sources are those that can be replenished naturally in a relatively "
    "short amount of time, such as solar, wind, hydro, geothermal, and biomass. Non-renewable"
    " energy sources, on the other hand, are finite and will eventually be depleted, such as "
    "coal, oil, and natural gas. Here are some key differences between renewable and non-"
    "renewable energy sources:\n"
    "1. Availability: Renewable energy sources are virtually inexhaustible, while non-"
    "renewable energy sources are finite and will eventually run out.\n"
    "2. Environmental impact: Renewable energy sources have a much lower environmental impact"
    " than non-renewable sources, which can lead to air and water pollution, greenhouse gas "
    "emissions, and other negative effects.\n"
    "3. Cost: Renewable energy sources can be more expensive to initially set up, but they "
    "typically have lower operational costs than non-renewable sources.\n"
    "4. Reliability: Renewable energy sources are often more reliable and can be used in more"
    " remote locations than non-renewable sources.\n"
    "5. Flexibility: Renewable energy sources are often more flexible and can be adapted to "
    "different situations and needs, while non-renewable sources are more rigid and "
    "inflexible.\n"
    "6. Sustainability: Renewable energy sources are more sustainable over the long term, "
    "while non-renewable sources are not, and their depletion can lead to economic and social"
    " instability.\n"
)

CONVERSATIONS: dict[str, Conversation] = {
    "vicuna_v1": Conversation(_assistant("user"), ("USER", "ASSISTANT"), (" ", "</s>")),
    "llava_v1": Conversation(_assistant("human"), ("USER", "ASSISTANT"), (" ", "</s>")),
    # LLaVA-NeXT on Mistral: the question in brackets, its answer and an end mark between blanks.
    "mistral_instruct": Conversation(
        "",
        ("USER", "ASSISTANT"),
        (" [/INST]", " </s>"),
        name_turns=False,
        openings=("[INST] ", " "),
    ),
    "plain": Conversation("", ("", ""), ("\n", None), name_turns=False),
    "v0": Conversation(
        _assistant("human"),
        ("Human", "Assistant"),
        ("###", "###"),
        messages=((0, _V0_QUESTION), (1, _V0_ANSWER)),
    ),
}


def conversation(mode: str = DEFAULT_TEMPLATE) -> Conversation:
    """Returns the empty conversation of a template.

    Raises:
        UserError: there is no template of that name.
    """
    if mode not in CONVERSATIONS:
        known = ", ".join(CONVERSATIONS)
        raise UserError(f"there is no conversation template {mode!r}; the templates are: {known}")
    return CONVERSATIONS[mode]


def question_prompt(
    question: str, mode: str = DEFAULT_TEMPLATE, history: Sequence[tuple[str, str]] = ()
) -> str:
    """Returns the prompt of a question about an image: image, newline, question, open answer.

    Args:
        question: the present question.
        mode: name of the template.
        history: earlier questions and answers; the image precedes the first question.
    """
    turns = conversation(mode)
    image = f"{DEFAULT_IMAGE_TOKEN}\n"
    for asked, answered in history:
        turns = turns.append(0, image + asked).append(1, answered)
        image = ""
    return turns.append(0, image + question).append(1, None).prompt()


def check_text(what: str, text: object) -> None:
    """Refuses a text that is not a valid question.

    Raises:
        UserError: names ``what``.
    """
    if not isinstance(text, str):
        raise UserError(f"the {what} is {quoted(text)}, not a text")
    if not text.strip():
        raise UserError(f"the {what} is empty: write what is asked about the image")
    if DEFAULT_IMAGE_TOKEN in text:
        raise UserError(
            f"the {what} holds {DEFAULT_IMAGE_TOKEN}: a question is about one image, whose place "
            "in the prompt is set already. Take it out; ask about another image separately"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"the {what} is not valid Unicode ({error.reason}): save it as UTF-8"
        ) from error
