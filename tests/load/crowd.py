"""Many visitors at once, each with questions of its own."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import numpy as np
from PIL import Image
from tqdm import tqdm

from llava.errors import UserError
from llava.mini.drawing import draw_scene
from llava.mini.scene import make_scene, scene_generator
from llava.mm_utils import load_image
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Sample
from tests.load.visitor import Visitor


@dataclass(frozen=True)
class Case:
    """A question of a visitor.

    Attributes:
        image: a PNG.
        question, visual_token_num: about it.
    """

    image: bytes
    question: str
    visual_token_num: int


@dataclass(frozen=True)
class Outcome:
    """Result of a question: seconds, and the page's record or its error message."""

    seconds: float
    record: dict | None
    error: str | None = None


def make_cases(count: int, num_patches: int, seed: int) -> list[Case]:
    """Returns questions about ``count`` scenes, at budgets from 1 to N - 1."""
    generator = np.random.default_rng(seed)
    cases = []
    for number in tqdm(range(count), desc="scenes", unit="scene", leave=False):
        scene = make_scene(scene_generator(seed, "test", number))
        thing = scene.things[generator.integers(len(scene.things))]
        questions = (
            f"What color is the {thing.shape}?",
            f"What size is the {thing.name}?",
            f"Where is the {thing.name}?",
        )
        question = questions[generator.integers(len(questions))]
        budget = int(generator.integers(1, num_patches))
        cases.append(Case(as_png(draw_scene(scene)), question, budget))
    return cases


def as_png(image: Image.Image) -> bytes:
    """Returns a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def answered_alone(model: LlavaAccm, case: Case) -> dict:
    """Returns the answer that a page must give: text, kept patches, caption, pruned and full."""
    image = load_image(case.image)
    found = {}
    for name, tokens in (("pruned", case.visual_token_num), ("full", model.tower.num_patches)):
        (answer,) = model.answer([Sample(image, case.question, visual_token_num=tokens)])
        compensation = answer.compensation
        found[name] = {
            "text": answer.text,
            "kept_idx": answer.kept_idx,
            "caption": compensation and compensation.chosen_caption.strip(),
        }
    return found


def is_same(record: dict, expected: dict) -> bool:
    """Returns whether a page's record has the expected values."""
    return all(
        record[name][key] == value for name, of in expected.items() for key, value in of.items()
    )


def visit(
    address: str,
    cases: Sequence[Case],
    visitors: int,
    description: str,
    on_outcome: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Lets visitors ask at once, each its share of the cases one after the other.

    Args:
        address: of the page.
        cases: what is asked; the outcomes are in their order.
        visitors: how many at once.
        description: of the progress bar.
        on_outcome: is called after each.
    """
    with tqdm(total=len(cases), desc=description, unit="question", leave=False) as bar:

        def one(place: int) -> list[Outcome]:
            outcomes = []
            with Visitor(address) as visitor:
                for case in cases[place::visitors]:
                    outcomes.append(_ask(visitor, case))
                    on_outcome()
                    bar.update()
            return outcomes

        with ThreadPoolExecutor(visitors) as pool:
            shares = list(pool.map(one, range(visitors)))
    return [shares[place % visitors][place // visitors] for place in range(len(cases))]


def _ask(visitor: Visitor, case: Case) -> Outcome:
    start = time.perf_counter()
    try:
        upload = visitor.upload(case.image)
        record = visitor.ask(upload, case.question, case.visual_token_num)
    except (UserError, httpx.HTTPError) as error:
        return Outcome(time.perf_counter() - start, None, repr(error))
    return Outcome(time.perf_counter() - start, record)
