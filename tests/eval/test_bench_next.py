"""The bench on LLaVA-NeXT: transformers' own class beside it, and formulas that count all views."""

from dataclasses import replace

import pytest
import torch

from llava.eval.bench.arguments import ACCM, FULL, HF, PRUNE, SHAPES, BenchArguments
from llava.eval.bench.comparison import compare
from llava.eval.bench.methods import Bench, Case, Lengths, questions, with_fixed_lengths
from llava.eval.bench.random_model import random_model
from llava.model.loading.placement import Placement
from llava.model.stopwatch import Stopwatch

CPU = torch.device("cpu")
SHAPE = replace(SHAPES["mini"], resolutions=((96, 192), (192, 96), (192, 192)))


@pytest.fixture(scope="module")
def model():
    return random_model(SHAPE, None, Placement(CPU, torch.float32), 0)


def test_the_formulas_count_all_views_and_newlines(model):
    args = BenchArguments(
        shape="mini", device="cpu", budgets=["1/9"], rounds=1, warm_up=0, caption_length=4,
        answer_length=3,
    )  # fmt: skip
    report, _ = compare(args, model)
    rows = {row["method"]: row for row in report["cases"]}
    kept = {name: row["visual_token_num"] for name, row in rows.items()}
    assert kept == {HF: 720, FULL: 720, PRUNE: 80, ACCM: 80}
    for name, row in rows.items():
        counted = {stage: n for stage, n in row["counted_operations"].items() if n}
        for stage, number in counted.items():
            near = 0.15 if stage == "caption" else 0.02  # how many are dropped of the base view
            assert row["operations"][stage] == pytest.approx(number, rel=near), (name, stage)


def test_transformers_own_class_answers_the_same(model):
    fixed = with_fixed_lengths(model, 4, compiled=False)
    bench = Bench(fixed, Lengths(4, 3, 1), graphs=False)
    stock, full = (Case(method, 720, 2) for method in (HF, FULL))
    pixels = bench.pixels(stock, 1)
    bench.prepare(full)
    answers = bench.run(full, pixels, Stopwatch(CPU))
    bench.prepare(stock)
    bench.run(stock, pixels, Stopwatch(CPU))
    ids, mask = bench._stock._prompts(questions(2))
    logits = bench._stock.llava(
        input_ids=ids, attention_mask=mask, **bench._stock._images(pixels)
    ).logits[:, -1]
    ours = torch.stack([answer.first_logits for answer in answers])
    torch.testing.assert_close(ours, logits, rtol=0, atol=1e-4)
