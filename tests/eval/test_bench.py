"""The instrument: what it counts is what torch counts, and what it writes is complete."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from llava.eval.bench import __main__ as command
from llava.eval.bench import batches
from llava.eval.bench.arguments import ACCM, FULL, HF, HF_PACKED, METHODS, PRUNE, SHAPES
from llava.eval.bench.measuring import Measured, measure
from llava.eval.bench.memory import PeakMemory, parameter_bytes
from llava.eval.bench.methods import Bench, Case, Lengths, cases, with_fixed_lengths
from llava.eval.bench.prediction import Machine, Pass, bytes_read
from llava.eval.bench.random_model import LlamaWords, random_model
from llava.eval.bench.stock import StockLlava
from llava.eval.bench.table import markdown
from llava.model.language_model.llava_llama import LanguageModel
from llava.model.loading.placement import Placement
from llava.model.multimodal_encoder.clip_encoder import class_attention
from llava.model.products.layers import Formed
from llava.model.sample import Sample
from llava.model.stopwatch import Stopwatch

CPU = torch.device("cpu")
FLAGS = "--shape mini --device cpu --rounds 2 --warm-up 0 --caption-length 4 --answer-length 3"
STAGES = {
    HF: {"encode", "prefill", "decode"},
    FULL: {"encode", "prune", "splice", "prefill", "decode"},
    PRUNE: {"encode", "prune", "splice", "prefill", "decode"},
    ACCM: {"encode", "prune", "caption", "select", "splice", "prefill", "decode"},
}


def run(folder, *more):
    return command.main([*FLAGS.split(), "--output", str(folder), *map(str, more)])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    more = "--budgets 9 36 --batch-sizes 1 4 --questions-per-image 2".split()
    assert run(folder, *more) == 0
    return folder


@pytest.fixture(scope="module")
def rows(report):
    return json.loads((report / "bench.json").read_text())["cases"]


def test_every_case_has_its_stages(rows):
    names = [(row["method"], row["visual_token_num"], row["batch_size"]) for row in rows]
    assert names == [
        (method, k, batch)
        for batch in (1, 4)
        for method, kept in ((HF, [144]), (FULL, [144]), (PRUNE, [9, 36]), (ACCM, [9, 36]))
        for k in kept
    ]
    for row in rows:
        assert set(row["stages"]) == STAGES[row["method"]]
        assert len(row["totals"]) == 2
        assert all(len(seconds) == 2 for seconds in row["stages"].values())
        for number, total in enumerate(row["totals"]):
            assert 0 < sum(seconds[number] for seconds in row["stages"].values()) <= total


def test_the_formulas_count_what_torch_counts(rows):
    for row in rows:
        counted = {stage: n for stage, n in row["counted_operations"].items() if n}
        computed = {stage: n for stage, n in row["operations"].items() if n}
        assert counted.keys() == computed.keys()
        for stage, number in counted.items():
            assert computed[stage] == pytest.approx(number, rel=0.02), (row["method"], stage)


def test_the_same_is_counted_of_packed_weights(tmp_path):
    """Of both LLaVAs of transformers too, which share the layers of this pipeline."""
    more = "--methods hf hf-packed accm --budgets 9 --cpu-products packed --no-picture"
    assert run(tmp_path, *more.split()) == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["cpu_products"] == "packed"
    test_the_formulas_count_what_torch_counts(report["cases"])
    plain, packed, _ = report["cases"]  # the words of the mini LLM are tied: packed, a copy
    assert packed["weight_bytes"] == plain["weight_bytes"] + 4 * 1024 * 128


@torch.inference_mode()
def test_weights_have_one_form_at_a_time(bench):
    """And transformers' LLaVA has the layers of this pipeline in it."""
    language_model = bench.model.language_model
    packing = Bench(bench.model, bench.lengths, False, "packed")
    for method in (HF, HF_PACKED, ACCM, HF):
        case = Case(method, 144, 1)
        packing.prepare(case)
        heads = [language_model.llm.lm_head]
        if method != ACCM:
            heads.append(packing._stock.llava.lm_head)
        packing.run(case, packing.pixels(case, 0), Stopwatch(CPU))
        assert all(isinstance(head, Formed) == (method != HF) for head in heads)
        assert heads[0] is heads[-1]


def test_where_no_form_differs_transformers_llava_stays(bench, monkeypatch):
    """It keeps what was compiled for it from one round to the next."""
    monkeypatch.setattr("llava.model.products.forms.processor", lambda: "other")
    same = Bench(bench.model, bench.lengths, False, "auto")
    same.prepare(Case(HF, 144, 1))
    stock = same._stock
    for method in (ACCM, HF_PACKED, HF):
        same.prepare(Case(method, 144, 1))
    assert same._stock is stock


def test_products_are_measured_and_a_change_proposed(capsys):
    assert command.main("--shape mini --device cpu --rounds 1 --products".split()) == 0
    out = capsys.readouterr().out
    assert "| part | rows | plain | turned | packed | chosen |" in out
    assert "| gpt2, step of 3 beams | 3 | " in out and "\nThis machine would change: " in out


def test_memory_and_cache(rows):
    by_name = {(row["method"], row["visual_token_num"], row["batch_size"]): row for row in rows}
    hf, accm = by_name[HF, 144, 1], by_name[ACCM, 36, 1]
    assert accm["cache_bytes"] < hf["cache_bytes"]
    # 5 layers of width 128 in float32; 59 ids of the prompt, 144 patches, 2 answer tokens read.
    assert hf["cache_bytes"] == 2 * 5 * 128 * 4 * (59 + 144 + 2)
    assert by_name[HF, 144, 4]["cache_bytes"] == 4 * hf["cache_bytes"]
    assert accm["weight_bytes"] > by_name[PRUNE, 36, 1]["weight_bytes"] > hf["weight_bytes"]


def test_the_files_that_people_read(report):
    text = (report / "bench.md").read_text()
    assert "| accm, K = 36 | 4 |" in text and "times hf" in text
    with Image.open(report / "bench.png") as picture:
        assert picture.width > 800 and len(picture.convert("RGB").getcolors(1 << 24)) > 50


def test_noise_is_said(rows, report):
    assert "noisy:" not in markdown([replace_noise(row, False) for row in rows])
    assert "(noisy)" in markdown([replace_noise(row, True) for row in rows])


def replace_noise(row, noisy):
    return row | {"noisy": noisy}


def test_the_spread_of_the_totals():
    steady = Measured(Case(HF, 144, 2), [], {}, 0, None, totals=[2.0, 2.0, 2.1, 1.9, 2.0])
    assert steady.seconds == 1.0 and steady.spread == 0.0 and not steady.is_noisy
    assert replace(steady, totals=[1.0, 2.0, 3.0, 4.0, 5.0]).is_noisy


@pytest.fixture(scope="module")
def bench():
    model = random_model(SHAPES["mini"], 2, Placement(CPU, torch.float32), 0)
    fixed = with_fixed_lengths(model, 3, False)
    return Bench(fixed, Lengths(3, 2, 1), False, "plain")


def test_rounds_go_there_and_back(bench):
    order = []

    class Watched:
        def pixels(self, case, seed):
            return seed

        def prepare(self, case):
            pass

        def run(self, case, pixels, watch):
            order.append((case.method, pixels))

    found = [Measured(Case(m, 9, 1), [], {}, 0, None) for m in (HF, ACCM)]
    measure(Watched(), found, rounds=2, warm_up=1, device=CPU)
    assert order == [(ACCM, 1), (HF, 1), (HF, 2), (ACCM, 2), (ACCM, 3), (HF, 3)]
    assert [len(one.totals) for one in found] == [2, 2]


@torch.inference_mode()
def test_hf_answers_what_this_pipeline_answers(model):
    """The comparison is one of equals: on the tiny checkpoint both give the same ids."""
    stock = StockLlava(model, graphs=False)
    pixels = torch.randn(1, 3, 336, 336, generator=torch.Generator().manual_seed(0))
    (image,) = model.encode_images(pixels)
    sample = Sample(image, "What is it?", visual_token_num=576, max_new_tokens=3)
    heads = []
    stock.llava.register_forward_hook(lambda *args: heads.append(args[-1].logits[0, -1]))
    stock.answer(pixels, ["What is it?"], 3, Stopwatch(CPU))
    whole = model.language_model
    endless = LanguageModel(whole.llm, whole.projector, whole.tokenizer, end_id=-1)
    prompts = model.splice(model.encode([sample]), [None], [None], [sample])
    (generated,) = endless.generate(prompts, [3])
    assert [int(head.argmax()) for head in heads] == generated.out_ids
    assert torch.allclose(heads[0], generated.first_logits, rtol=0, atol=1e-4)


def test_captions_and_answers_have_the_lengths_asked_for(bench):
    case = Case(ACCM, 9, 2)
    bench.prepare(case)
    answers = bench.run(case, bench.pixels(case, 0), Stopwatch(CPU))
    assert [len(answer.out_ids) for answer in answers] == [2, 2]
    for answer in answers:
        assert [len(ids) for ids in answer.compensation.candidates.ids] == [3, 3, 3]


def test_cases_differ():
    assert cases(METHODS, [9], [1], 144) == [
        Case(HF, 144, 1),
        Case(HF_PACKED, 144, 1),
        Case(FULL, 144, 1),
        Case(PRUNE, 9, 1),
        Case(ACCM, 9, 1),
    ]


def test_a_pass_waits_for_arithmetic_or_for_weights():
    machine = Machine(operations=100.0, bandwidth=10.0)
    assert machine.seconds([Pass(200, 1), Pass(1, 30)]) == 2 + 3


def test_peak_memory_sees_what_is_gone_in_the_end():
    with PeakMemory(CPU) as peak:
        torch.ones(50 << 18).sum()  # 50 MiB
    if peak.bytes is None:
        pytest.skip("nobody counts memory here")
    assert 45 << 20 < peak.bytes < 120 << 20


def test_shared_parameters_count_once():
    layer = torch.nn.Linear(4, 4, bias=False)
    assert parameter_bytes([layer, torch.nn.Sequential(layer)]) == 64


def test_the_stand_in_prompt_is_as_long_as_the_real_one():
    system = (
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: "
    )
    assert len(LlamaWords(32000).encode(system)) == 34  # LLaVA-1.5's own: 35


@pytest.mark.parametrize(
    "flags, says",
    [
        ("--shape huge", "no shape 'huge'"),
        ("--model-path x", "say what to measure"),
        ("--methods fast", "no method 'fast'"),
        ("--budgets 0", "--budgets has 0"),
        ("--budgets 145", "from 1 to 144"),
        ("--batch-sizes 0", "--batch-sizes has 0"),
        ("--rounds 0", "--rounds has 0"),
        ("--caption-length 0", "--caption-length has 0"),
        ("--answer-length -1", "--answer-length has -1"),
        ("--llm-layers 0", "--llm-layers has 0"),
        ("--warm-up -1", "--warm-up"),
        ("--device-map auto", "leave one of the two out"),
        ("--no-compensation", "leave out --no-compensation"),
        ("--device cuda:99", "no device"),
        ("--output README.md/x", "cannot make the folder"),
        ("--cpu-products fast", "no --cpu-products 'fast'"),
        ("--methods hf hf-packed --cpu-products plain", "hf-packed is hf here"),
        ("--products", "--caption-length, --answer-length, --warm-up, --output has no effect"),
    ],
)
def test_bad_flags_get_one_line(tmp_path, capsys, flags, says):
    assert run(tmp_path, *flags.split()) == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error


def test_shared_layers_take_the_memory_of_one(tmp_path):
    place = Placement(CPU, torch.float32)

    def addresses(**how):
        layers = random_model(SHAPES["mini"], None, place, 0, **how).language_model.llm.model.layers
        return [{p.data_ptr() for p in layer.parameters()} for layer in layers]

    (one, *others), apart = addresses(share_layers=True), addresses()
    assert len(others) == 4 and all(other == one for other in others)
    assert not set.intersection(*apart)
    assert run(tmp_path, "--methods", "hf", "prune", "--share-layers", "--rounds", "1") == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["settings"]["share_layers"]
    assert "share the weights of one" in (tmp_path / "bench.md").read_text()
    # A pass reads the shared weights once for each layer.
    assert run(tmp_path, "--methods", "hf", "prune", "--rounds", "1") == 0
    usual = json.loads((tmp_path / "bench.json").read_text())
    for one, other in zip(report["cases"], usual["cases"], strict=True):
        assert one["operations"] == other["operations"]
        assert one["weight_bytes"] < other["weight_bytes"]
    llms = [random_model(SHAPES["mini"], None, place, 0, share) for share in (True, False)]
    assert len({bytes_read(model.language_model.llm) for model in llms}) == 1


@pytest.mark.parametrize(
    "flags, says",
    [
        ("--model-path checkpoints/accm-mini", "--share-layers goes with --shape"),
        ("--shape mini --device cpu --cpu-products packed", "where each layer packs its weights"),
    ],
)
def test_layers_are_shared_only_where_they_can_be(tmp_path, capsys, flags, says):
    flags += f" --share-layers --output {tmp_path}"
    assert command.main(flags.split()) == 2
    assert says in capsys.readouterr().err


def test_without_a_model_or_a_shape(tmp_path, capsys):
    assert command.main(["--output", str(tmp_path)]) == 2
    assert "say what to measure" in capsys.readouterr().err


def test_batches_are_compared_by_part():
    model = with_fixed_lengths(
        random_model(SHAPES["mini"], None, Placement(CPU, torch.float32), 0), 4, False
    )
    samples = batches._noise_samples(model, 3, 0)
    alone = batches._answers(model, samples, 1)
    assert batches.differences(alone, alone) == [0, 0, 0]
    other = replace(alone[1], kept_idx=alone[1].kept_idx[::-1], out_ids=[*alone[1].out_ids, 5])
    assert batches.differences(alone, [alone[0], other, alone[2]]) == [1, 0, 1]


def test_batches_prints_a_row_a_budget(capsys):
    flags = "--shape mini --device cpu --questions 3 --batch-size 3 --budgets 9 36"
    assert batches.main(flags.split()) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows == [f"| float32 | {k} | 3 | 3 | 0.0% | 0.0% | 0.0% |" for k in (9, 36)]


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--shape mini --cpu-products fast",
        "--shape mini --compile",
        "--shape mini --questions 0",
        "--shape giant",
        "--shape mini --budgets 0",
    ],
)
def test_batches_refuses_settings(flags, capsys):
    assert batches.main(flags.split()) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_kept_tokens_and_candidate_features_do_not_depend_on_the_batch(dtype):
    """In half precision to the last bit: rows have the same shape alone and together."""
    model = random_model(SHAPES["mini"], None, Placement(CPU, dtype), 0)
    hidden = torch.randn(3, 10, 128, generator=torch.Generator().manual_seed(0)).to(dtype)
    layer = model.tower.clip.vision_model.encoder.layers[-1]
    together = class_attention(layer, hidden)
    texts = [["a red star.", "a ring."], ["a blue cross on the left.", "a dog."], ["x.", "y."]]
    features = model.compensator.long_clip.candidate_features(texts)
    tolerance = 0 if dtype == torch.bfloat16 else 1e-5
    for b in range(3):
        alone = class_attention(layer, hidden[b : b + 1])[0]
        torch.testing.assert_close(together[b], alone, rtol=0, atol=1e-6)
        one = model.compensator.long_clip.candidate_features(texts[b : b + 1])[0]
        torch.testing.assert_close(features[b], one, rtol=0, atol=tolerance)
