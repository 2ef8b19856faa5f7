"""The bench on shapes of Qwen2.5-VL: the same answers as transformers' class, exact formulas."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import init_empty_weights
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import (
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLVisionConfig,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
)

from llava.errors import UserError
from llava.eval.bench.arguments import ACCM, FULL, HF, PRUNE, BenchArguments
from llava.eval.bench.comparison import compare_qwen, measure_methods
from llava.eval.bench.methods import Case, questions
from llava.eval.bench.qwen import QwenBench, StockQwen, random_qwen
from llava.eval.bench.qwen_costs import QwenCosts, ceiling
from llava.model.language_model.qwen import QwenCausalLM
from llava.model.loading.placement import Placement
from llava.model.shapes import QWEN_3B, QWEN_TINY
from llava.model.stopwatch import Stopwatch
from tests.helpers.tiny_qwen import make_tiny_qwen

CPU = torch.device("cpu")
FLAGS = dict(shape="qwen-tiny", budgets=["1/9"], rounds=1, warm_up=0, device="cpu", picture=False)


def test_operations_are_those_that_torch_counts():
    report, _ = compare_qwen(BenchArguments(methods=[HF, FULL, PRUNE], **FLAGS))
    rows = {row["method"]: row for row in report["cases"]}
    for stage, counted in rows[HF]["counted_operations"].items():
        assert rows[HF]["operations"][stage] == pytest.approx(counted, rel=1e-6)
    for method in (FULL, PRUNE):
        counted = rows[method]["counted_operations"]
        assert rows[method]["operations"]["encode"] == pytest.approx(counted["encode"], rel=1e-6)
        # Prompts are padded to a multiple of eight.
        assert rows[method]["operations"]["prefill"] <= counted["prefill"]
    assert rows[PRUNE]["visual_token_num"] == 4 and rows[HF]["visual_token_num"] == 36
    (times,) = report["ceilings"].values()
    assert 1.1 < times < 1.3


def test_both_give_the_same_answers():
    model = random_qwen(QWEN_TINY, None, Placement(CPU, torch.float32), 0)
    runner, case = QwenBench(model, QWEN_TINY, 4, "plain"), Case(FULL, 36, 2)
    runner.prepare(case)
    pixels = runner.pixels(case, 3)
    answers = runner.run(case, pixels, Stopwatch(CPU))
    watch = Stopwatch(CPU)
    found = StockQwen(model).answer(pixels, questions(2), 4, watch)
    assert [answer.out_ids for answer in answers] == found.tolist()
    assert list(watch.seconds()) == ["encode", "prefill", "decode"]


def test_the_published_shape_has_its_ceiling():
    """36 x 36 tokens on 3B: the vision tower is half of all operations."""
    with init_empty_weights():
        config = Qwen2_5_VLVisionConfig(**QWEN_3B.vision)
        vision = Qwen2_5_VisionTransformerPretrainedModel._from_config(config)
        llm = QwenCausalLM(Qwen2_5_VLTextConfig(**QWEN_3B.llm))
    model = SimpleNamespace(
        tower=SimpleNamespace(vision=vision), language_model=SimpleNamespace(llm=llm)
    )
    costs = QwenCosts(model, QWEN_3B, num_text=50, answer_length=4)
    full, pruned = Case(HF, 1296, 1), Case(PRUNE, 144, 1)
    encode = costs.stages(full)["encode"][0].operations
    assert encode / costs.operations(full) == pytest.approx(0.47, abs=0.02)
    (times,) = ceiling(costs, [full, pruned]).values()
    assert times == pytest.approx(1.8, abs=0.05)


@pytest.mark.parametrize(
    "wrong", [dict(methods=[HF, ACCM]), dict(caption_length=4), dict(products=True)]
)
def test_captions_are_refused(wrong, tmp_path):
    flags = dict(methods=[HF], output=str(tmp_path / "bench")) | FLAGS | wrong
    with pytest.raises(UserError, match="has no captions.*--methods hf full prune"):
        measure_methods(BenchArguments(**flags))
    assert not (tmp_path / "bench").exists()


def test_a_checkpoint_is_refused_before_it_is_read(tmp_path):
    make_tiny_qwen(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    args = BenchArguments(str(tmp_path), methods=[FULL], device="cpu")
    with pytest.raises(UserError, match="--shape qwen-tiny or .* in the place of --model-path"):
        measure_methods(args)
