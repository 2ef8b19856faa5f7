"""What the runs of one process share: encoded images, encoded questions."""

from types import SimpleNamespace

import torch

from llava.eval.caches import QUESTIONS_AT_ONCE, QuestionMemory, Shared, UnitMemory
from llava.model.multimodal_encoder.visual_tokens import Needs

QUESTIONS = [f"Is there a {name} in the image?" for name in "abcdefghij"]


class Encoder:
    """Stands for the model: an embedding has the question's length, and a trace of its company.

    Attributes:
        encoded: how many questions were.
    """

    def __init__(self):
        self.encoded = 0

    def encode_questions(self, questions):
        self.encoded += len(questions)
        company = float(sum(map(len, questions)))
        return [torch.tensor([len(question), company]) for question in questions]


def test_each_question_is_encoded_once():
    encoder, memory = Encoder(), QuestionMemory(QUESTIONS + QUESTIONS)
    for question in QUESTIONS + QUESTIONS:
        assert memory.find(encoder, question)[0] == len(question)
    assert encoder.encoded == len(QUESTIONS)


def test_an_embedding_does_not_depend_on_what_else_is_asked():
    """Forwards, backwards or alone, as after an interruption."""
    many = [f"question {number}?" for number in range(2 * QUESTIONS_AT_ONCE + 5)]

    def found(asked):
        memory, encoder = QuestionMemory(many), Encoder()
        return {question: memory.find(encoder, question).tolist() for question in asked}

    expected = found(many)
    assert found(many[::-1]) == expected
    for question in many[::7]:
        assert found([question]) == {question: expected[question]}


def test_a_question_that_cannot_be_read_costs_the_others_nothing():
    encoder, memory = Encoder(), QuestionMemory(["good?", "bad \ud800", "", "fine?"])
    assert memory.find(encoder, "good?").tolist() == [5, 10]
    assert memory.find(encoder, "bad \ud800") is None
    assert memory.find(encoder, "never announced") is None


def test_runs_on_the_same_questions_share_their_memory():
    shared = Shared(compensation=False)
    assert shared.texts(QUESTIONS) is shared.texts(list(QUESTIONS))
    assert shared.texts(QUESTIONS[:3]) is not shared.texts(QUESTIONS)


def test_images_are_kept_by_whole_units():
    """A part of one would be encoded in another company than the rest."""
    memory = UnitMemory(limit=10)
    units = {
        ("a", "b"): {"a": 3, "b": 3},
        ("c", "d"): {"c": 3, "d": 3},  # there is room for one of them
        ("e", "f"): {"e": 1},  # the other could not be read
        ("g",): {"g": 4},
    }
    for names, sizes in units.items():
        memory.keep(names, {name: SimpleNamespace(nbytes=n) for name, n in sizes.items()})
    kept = {names: memory.find(names) for names in units}
    assert [names for names, images in kept.items() if images is not None] == [("a", "b"), ("g",)]
    assert set(kept["a", "b"]) == {"a", "b"}


def test_images_that_lack_what_is_needed_make_room_for_others():
    bare, full = (
        SimpleNamespace(nbytes=size, has=lambda needs, has=has: needs in has)
        for size, has in ((4, Needs.NOTHING), (9, Needs.KEYS | Needs.RECEIVED))
    )
    memory = UnitMemory(limit=10)
    memory.keep(("a",), {"a": bare})
    assert memory.find(("a",)) == {"a": bare} and memory.find(("a",), Needs.KEYS) is None
    memory.keep(("a",), {"a": full})
    assert memory.find(("a",), Needs.KEYS) == {"a": full}
    memory.keep(("b",), {"b": bare})  # 9 of 10 bytes are taken
    assert memory.find(("b",)) is None
