"""Questions about a scene that fits in the head."""

import numpy as np
import pytest

from llava.mini import language
from llava.mini.language import Fact
from llava.mini.scene import Scene, Thing, make_scene, scene_generator

RED_CIRCLE = Thing("circle", "red", "small", cell=0, x=12, y=12, radius=7)
BLUE_STAR = Thing("star", "blue", "large", cell=3, x=84, y=12, radius=10)
BLUE_CIRCLE = Thing("circle", "blue", "small", cell=10, x=60, y=60, radius=7)
SCENE = Scene((RED_CIRCLE, BLUE_STAR, BLUE_CIRCLE), background=0)


def drawn(make, times=300):
    """Texts and answers of many facts."""
    generator = np.random.default_rng(0)
    facts = [make(generator) for _ in range(times)]
    return {(fact.text, fact.answer) for fact in facts}


def test_relations_by_hand():
    first = ["red circle left of blue star", "red circle left of blue circle"]
    first += ["red circle above blue circle", "blue star above blue circle"]
    right = set()
    for text in first:
        for here, there in (("left of", "right of"), ("above", "below")):
            if here in text:
                a, b = text.split(f" {here} ")
                right |= {f"Is the {a} {here} the {b}?", f"Is the {b} {there} the {a}?"}
    yes = drawn(lambda g: language.relation(SCENE, g, "yes"))
    assert yes == {(text, "yes") for text in right}
    no = drawn(lambda g: language.relation(SCENE, g, "no"))
    assert len(no) == len(right) and not right & {text for text, _ in no}
    assert {answer for _, answer in no} == {"no"}


def test_no_relation_within_one_quarter():
    close = Thing("star", "red", "small", cell=1, x=28, y=14, radius=7)
    scene = Scene((RED_CIRCLE, close), background=0)
    assert language.relation(scene, np.random.default_rng(0), "yes") is None


@pytest.mark.parametrize(
    "kind, questions",
    [
        ("color", {("What color is the star?", "blue")}),
        ("shape", {("What shape is the red object?", "circle")}),
        (
            "place",
            {
                ("Where is the star?", "northeast"),
                ("Where is the blue star?", "northeast"),
                ("Where is the red circle?", "northwest"),
                ("Where is the blue circle?", "southeast"),
            },
        ),
        (
            "size",
            {
                ("What size is the star?", "large"),
                ("What size is the blue star?", "large"),
                ("What size is the red circle?", "small"),
                ("What size is the blue circle?", "small"),
            },
        ),
    ],
)
def test_attributes_of_objects_that_can_be_named(kind, questions):
    assert drawn(lambda g: language.attribute(SCENE, g, kind)) == questions


@pytest.mark.parametrize(
    "kind, questions",
    [
        ("color", {"Is the star red?"}),  # the one other colour of the scene
        ("shape", {"Is the red object a star?"}),
    ],
)
def test_no_takes_what_is_right_of_another_object(kind, questions):
    no = {(text, "no") for text in questions}
    assert drawn(lambda g: language.verify(SCENE, g, kind, "no")) == no


def test_no_of_places():
    texts = {text for text, _ in drawn(lambda g: language.verify(SCENE, g, "place", "no"))}
    assert "Is the star in the northwest?" in texts and "Is the star in the southeast?" in texts
    assert not any("northeast" in text and "star" in text for text in texts)
    assert not any("southwest" in text for text in texts)


def test_counts():
    right = {"circles": "two", "stars": "one", "objects": "three"}
    right |= dict.fromkeys(("squares", "triangles", "crosses", "rings"), "zero")
    expected = {(f"How many {what} are there in the image?", n) for what, n in right.items()}
    assert drawn(lambda g: language.count(SCENE, g)) == expected
    for text, answer in drawn(lambda g: language.verify_count(SCENE, g, "no")):
        what, number = text.removeprefix("Is the number of ").split(" in the image ")
        assert right[what] != number.rstrip("?") and answer == "no"


@pytest.mark.parametrize("how", ["random", "popular", "adversarial"])
def test_what_is_not_there(how):
    texts = {text for text, _ in drawn(lambda g: language.existence(SCENE, g, "no", how))}
    names = {text.removesuffix(" in the image?").split(" ", 3)[3] for text in texts}
    assert not names & {"red circle", "blue star", "blue circle"}
    if how == "adversarial":
        assert names == {"red star"}
    if how == "popular":
        assert all({"red", "blue", "circle", "star"} & set(name.split()) for name in names)


def test_choice():
    generator = np.random.default_rng(0)
    fact = language.attribute_of(BLUE_STAR, "star", "color")
    for _ in range(20):
        asked = language.choice(fact, generator)
        assert len(set(asked.options)) == 4
        assert asked.options["ABCD".index(asked.letter)] == "blue"
    size = language.choice(language.attribute_of(BLUE_STAR, "star", "size"), generator)
    assert sorted(size.options) == ["large", "small"]
    assert size.text.startswith("What size is the star?\nA. ")


def test_caption():
    text = language.caption_of([BLUE_STAR, RED_CIRCLE])
    expected = "a large blue star northeast and a small red circle northwest."
    assert text == expected


def test_verify_value():
    fact = Fact("count", "How many crosses are there in the image?", "two", None, ("one",))
    no = language.verify_value(fact, "one")
    assert (no.text, no.answer) == ("Is the number of crosses in the image one?", "no")
    assert language.verify_value(fact, "two").answer == "yes"


def test_what_is_said_depends_on_the_scene_alone():
    def said(seed, split, number):
        generator = scene_generator(seed, split, number)
        return language.conversations(make_scene(generator), generator)

    assert said(1, "train", 7) == said(1, "train", 7)
    others = [
        said(2, "train", 7),
        said(1, "test", 7),
        said(1, "validation", 7),
        said(1, "train", 8),
    ]
    assert said(1, "train", 7) not in others


def test_a_false_phrase_differs_in_one_attribute():
    text = "a small red circle northwest and a large blue star northeast."
    generator = np.random.default_rng(0)
    assert language.falsify(text, 0.0, generator) == text
    for _ in range(50):
        said = language.falsify(text, 1.0, generator)
        wrong = [sum(a != b for a, b in zip(*both)) for both in zip(words(text), words(said))]
        assert wrong == [1, 1] and said.endswith(".")
    half = [language.falsify(text, 0.5, generator) for _ in range(400)]
    kept = np.mean([a == b for said in half for a, b in zip(words(text), words(said))])
    assert kept == pytest.approx(0.5, abs=0.06)


def words(text):
    """The words of each phrase."""
    return [phrase.split() for phrase in text.rstrip(".").split(" and ")]
