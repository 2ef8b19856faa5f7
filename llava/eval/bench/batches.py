"""What changes with the batch: ``python -m llava.eval.bench.batches``.

Asks questions alone and in batches, and counts kept tokens, captions and answers that differ.
Questions come from benchmarks (--model-path), or are made up about images of noise (--shape).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llava.errors import UserError
from llava.eval.bench.arguments import (
    SHAPES,
    BatchesArguments,
    check_budgets,
    check_positive,
    check_source,
)
from llava.eval.benchmarks.registry import BENCHMARKS, data_folder, reader
from llava.utils.cli import command

if TYPE_CHECKING:
    from llava.model.llava_arch import LlavaAccm
    from llava.model.sample import Answer, Sample

PARTS = ("kept tokens", "captions", "answers")


def compare(args: BatchesArguments) -> int:
    """Asks, and prints a row of the table for each budget."""
    from llava.eval.bench.methods import with_fixed_lengths
    from llava.eval.bench.random_model import random_model
    from llava.model.builder import load_from_arguments
    from llava.model.loading.placement import placement, uses_cuda_graphs
    from llava.model.products import optimize_for_inference

    _check(args)
    if args.shape is None:
        model = load_from_arguments(args)
        samples = _benchmark_samples(args.data_root, args.questions)
    else:
        shape = SHAPES[args.shape]
        model = random_model(shape, args.llm_layers, placement(args), args.seed)
        model = optimize_for_inference(model, args.cpu_products)
        has_graphs = uses_cuda_graphs(args, placement(args))
        model = with_fixed_lengths(model, 15, compiled=False, cuda_graphs=has_graphs)
        samples = _noise_samples(model, args.questions, args.seed)
    dtype = str(next(model.language_model.llm.parameters()).dtype).removeprefix("torch.")
    print("| dtype | K | batch | questions | " + " | ".join(PARTS) + " |")
    print("| --- |" + " ---: |" * (3 + len(PARTS)))
    for budget in args.budgets:
        asked = [replace(sample, visual_token_num=budget) for sample in samples]
        shares = [f"{count / len(asked):.1%}" for count in changed(model, asked, args.batch_size)]
        cells = [dtype, str(budget), str(args.batch_size), str(len(asked)), *shares]
        print("| " + " | ".join(cells) + " |", flush=True)
    return 0


def changed(model: LlavaAccm, samples: Sequence[Sample], batch_size: int) -> list[int]:
    """Counts the kept tokens, captions and answers that differ between batches and alone."""
    return differences(_answers(model, samples, 1), _answers(model, samples, batch_size))


def differences(some: Sequence[Answer], others: Sequence[Answer]) -> list[int]:
    """Counts the differing lists of kept tokens, captions and answers, pair by pair."""
    pairs = [zip(_parts(one), _parts(other)) for one, other in zip(some, others)]
    differ = [[one != other for one, other in pair] for pair in pairs]
    return [sum(column) for column in zip(*differ)]


def _answers(model: LlavaAccm, samples: Sequence[Sample], batch_size: int) -> list[Answer]:
    """Answers in batches, without caches from one batch to the next."""
    found = []
    for start in range(0, len(samples), batch_size):
        found += model.answer(list(samples[start : start + batch_size]))
    return found


def _parts(answer: Answer) -> tuple[list[int], str | None, list[int]]:
    text = None if answer.supplement is None else answer.supplement.text
    return answer.kept_idx, text, answer.out_ids


def _benchmark_samples(data_root: str, number: int) -> list[Sample]:
    """Returns questions of all benchmarks, evenly spread."""
    from llava.mm_utils import load_image
    from llava.model.sample import Sample

    asked = []
    for name in BENCHMARKS:
        asked += reader(name).read_questions(data_folder(name, None, data_root))
    chosen = [asked[i * len(asked) // number] for i in range(min(number, len(asked)))]
    return [
        Sample(
            load_image(question.image),
            question.prompt,
            tower_question=question.tower_question,
            max_new_tokens=question.max_new_tokens,
        )
        for question in chosen
    ]


def _noise_samples(model: LlavaAccm, number: int, seed: int) -> list[Sample]:
    """Returns questions of different lengths, each about its own image of noise."""
    import torch
    from PIL import Image

    from llava.eval.bench.methods import questions
    from llava.model.sample import Sample

    generator = torch.Generator().manual_seed(seed)
    side = model.tower.image_size
    samples = []
    for place, question in enumerate(questions(number)):
        pixels = torch.randint(0, 256, (side, side, 3), generator=generator, dtype=torch.uint8)
        words = "in the picture " * (place % 4)
        image = Image.fromarray(pixels.numpy())
        samples.append(Sample(image, words + question, max_new_tokens=4))
    return samples


def _check(args: BatchesArguments) -> None:
    """Refuses settings before minutes are spent.

    Raises:
        UserError: a setting is wrong; the message names it.
    """
    from llava.model.loading.placement import placement
    from llava.model.products.forms import choose_forms

    check_source(args)
    place = placement(args)
    choose_forms(args.cpu_products, place.device, place.dtype, args.compile)
    if args.shape is not None and args.compile:
        raise UserError("--compile has no effect with --shape: leave one of the two out")
    if args.shape is not None and args.device_map is not None:
        raise UserError("random weights are made on one device: leave out --device-map")
    check_positive(
        {
            "questions": args.questions,
            "batch-size": args.batch_size,
        }
    )
    check_budgets(args.budgets)


main = command(BatchesArguments, compare, "llava.eval.bench.batches", __doc__)

if __name__ == "__main__":
    sys.exit(main())
