"""Compares the answers of the server's engines with the pipeline's own, token for token.

python -m tests.load.same_answers
python -m tests.load.same_answers --engine-urls http://127.0.0.1:8001
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from typing import Optional

import numpy as np
from PIL import Image

from llava.arguments import ModelArguments, flag, list_flag
from llava.mm_utils import load_image
from llava.model.builder import load_from_arguments
from llava.model.llava_arch import LlavaAccm
from llava.model.sample import Sample
from llava.serve.engines.engine import Engine, Models, Request, Token
from llava.serve.engines.local import LocalEngine
from llava.serve.engines.vllm import VllmEngine
from llava.utils.cli import command
from tests.load.crowd import make_cases

CAPTION = "Provide a one-sentence caption for the provided image."


@dataclass
class SameArguments(ModelArguments):
    """Flags of the command."""

    model_path: str = flag("The model.", "checkpoints/accm-mini")
    device: str = flag("Of the model.", "cpu")
    engine_urls: list[str] = list_flag("Servers of vLLM; without them, the engine local.", [])
    budgets: list[int] = list_flag("Visual tokens that are kept, in turn.", (9, 18, 36, 144))
    questions: int = flag("Number of questions.", 300)
    at_once: int = flag("Questions under way at once.", 32)
    batch_size: int = flag("Most questions at once in the model.", 32)
    seed: Optional[int] = flag("Of the questions.", 0)


def make_samples(args: SameArguments, num_patches: int) -> list[Sample]:
    """Returns questions of several kinds, budgets and lengths; a quarter want a sentence."""
    generator = np.random.default_rng(args.seed)
    samples = []
    for place, case in enumerate(make_cases(args.questions, num_patches, args.seed)):
        image: Image.Image = load_image(case.image)
        question = CAPTION if place % 4 == 3 else case.question
        budget = args.budgets[generator.integers(len(args.budgets))]
        limit = int(generator.integers(1, 32))
        samples.append(Sample(image, question, visual_token_num=budget, max_new_tokens=limit))
    return samples


async def ask_all(
    engine: Engine, samples: list[Sample], at_once: int
) -> list[tuple[list[int], str | None]]:
    """Returns the tokens of all answers, and why each ended."""
    places = asyncio.Semaphore(at_once)

    async def ask(sample: Sample) -> tuple[list[int], str | None]:
        async with places:
            request = Request(sample, engine.models.usual)
            engine.check(request)
            return await tokens_of(engine, request)

    await engine.start()
    try:
        return await asyncio.gather(*map(ask, samples))
    finally:
        await engine.close()


async def tokens_of(engine: Engine, request: Request) -> tuple[list[int], str | None]:
    """Returns the tokens of an answer, and why it ended."""
    tokens = [event async for event in engine.generate(request) if isinstance(event, Token)]
    return [token.id for token in tokens], tokens[-1].reason


def own_answers(model: LlavaAccm, samples: list[Sample]) -> list[tuple[list[int], str]]:
    """Returns the pipeline's own answers, one question at a time."""
    end = model.language_model.end_id
    found = [model.answer([sample])[0].out_ids for sample in samples]
    return [(ids, "stop" if ids[-1] == end else "length") for ids in found]


def compare(args: SameArguments) -> int:
    """Prints how many answers are the same, and the first that are not."""
    model = load_from_arguments(args)
    samples = make_samples(args, model.count_tokens())
    models = Models(model, args.compensation_name)
    how = (args.batch_size, 0.005, 1 << 30, lambda size, seconds: None)
    engine: Engine = (
        VllmEngine(models, args.engine_urls, *how)
        if args.engine_urls
        else LocalEngine(models, *how)
    )
    start = time.perf_counter()
    found = asyncio.run(ask_all(engine, samples, args.at_once))
    between = time.perf_counter()
    expected = own_answers(model, samples)
    end = time.perf_counter()
    wrong = [place for place, (a, b) in enumerate(zip(found, expected)) if a != b]
    name = "vllm" if args.engine_urls else "local"
    tokens = sum(len(ids) for ids, _ in expected)
    print(f"{name}: {len(samples) - len(wrong)} of {len(samples)} answers ({tokens} tokens) equal")
    print(
        f"{len(samples) / (between - start):.1f} a second, {args.at_once} at once; one after the "
    )
    print(f"other {len(samples) / (end - between):.1f} a second")
    for place in wrong[:5]:
        print(place, samples[place].visual_token_num, found[place], expected[place])
    return 1 if wrong else 0


main = command(SameArguments, compare, "tests.load.same_answers", __doc__ or "")

if __name__ == "__main__":
    sys.exit(main())
