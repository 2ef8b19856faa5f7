"""What the runs of one process share: encoded images, encoded questions."""

from types import SimpleNamespace

import torch

from llava.eval.shared import QUESTIONS_AT_ONCE, QuestionMemory, Shared, UnitMemory

QUESTIONS = [f"Is there a {name} in the image?" for name in "abcdefghij"]


class Encoder:
    """Stands for the model; counts what it is asked."""

    def __init__(self):
        self.companies = []

    def encode_questions(self, questions):
        self.companies.append(list(questions))
        return [torch.tensor([float(len(q))]) for q in questions]


def test_each_question_is_encoded_once():
    encoder, memory = Encoder(), QuestionMemory(QUESTIONS + QUESTIONS)
    for question in QUESTIONS + QUESTIONS:
        assert memory.find(encoder, question).tolist() == [len(question)]
    assert encoder.companies == [QUESTIONS]


def test_companies_do_not_depend_on_what_is_asked_first():
    many = [f"question {number}?" for number in range(2 * QUESTIONS_AT_ONCE + 5)]
    forward, backward = Encoder(), Encoder()
    for encoder, order in ((forward, many), (backward, many[::-1])):
        memory = QuestionMemory(many)
        for question in order:
            memory.find(encoder, question)
    assert sorted(forward.companies) == sorted(backward.companies)
    assert [len(company) for company in forward.companies] == [32, 32, 5]


def test_a_question_that_cannot_be_read_costs_the_others_nothing():
    encoder, memory = Encoder(), QuestionMemory(["good?", "bad \ud800", "", "fine?"])
    assert memory.find(encoder, "good?") is not None
    assert encoder.companies == [["good?", "fine?"]]
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
