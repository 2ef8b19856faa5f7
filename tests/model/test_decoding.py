"""How tokens are chosen: transformers' rules, and nothing but sample and seed has a say."""

import dataclasses
import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

from llava.decoding import GREEDY, Decoding
from llava.errors import UserError
from llava.eval import model_vqa_loader, run_llava, trace
from llava.eval.arguments import AskArguments
from llava.lmms.arguments import LmmsArguments
from llava.model.language_model.beams import search_beams
from llava.model.language_model.sampling import TokenChooser, warpers
from llava.model.memory import Memory
from llava.model.sample import Sample
from llava.serve import cli
from llava.serve.accm import Accm
from llava.serve.chat import Chat

NOISE = np.random.default_rng(4).integers(0, 256, (2, 60, 90, 3), dtype=np.uint8)
IMAGES = [Image.fromarray(noise) for noise in NOISE]
QUESTIONS = ["What is it?", "Where is the small one, and what stands beside it?"]


def sample_of(place=0, **settings):
    given = {"visual_token_num": 36, "max_new_tokens": 6} | settings
    return Sample(IMAGES[place % 2], QUESTIONS[place % 2], **given)


@torch.inference_mode()
def by_transformers(model, sample, **settings):
    """The answer of transformers' own generate to what the LLM reads of a sample."""
    encoded = model.encode([sample])
    selections = model.prune(encoded, [sample])
    written = model.compensate(encoded, selections, [sample])
    (prompt,) = model.splice(encoded, selections, written, [sample])
    ids = model.language_model.llm.generate(
        inputs_embeds=prompt.embeds[None],
        attention_mask=torch.ones(1, len(prompt.embeds), dtype=torch.long),
        max_new_tokens=sample.max_new_tokens,
        eos_token_id=model.language_model.end_id,
        pad_token_id=0,
        **settings,
    )[0].tolist()
    end = model.language_model.end_id
    return ids[: ids.index(end) + 1] if end in ids else ids


# Drawing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature, top_p", [(1, None), (0.2, None), (0.7, 0.5), (5.0, 0.9)])
@pytest.mark.parametrize("seed", [3, 42])
def test_draws_are_those_of_transformers(model, temperature, top_p, seed):
    sample = sample_of(temperature=temperature, top_p=top_p, seed=seed)
    (answer,) = model.answer([sample])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        expected = by_transformers(
            model, sample, do_sample=True, temperature=float(temperature), top_p=top_p, top_k=0
        )
    assert answer.out_ids == expected
    assert answer.decoding == Decoding(temperature, top_p, 1, seed)


HALF, THIRD, FIFTH = torch.tensor([[0.5, 0.3, 0.2]]).log()[0].tolist()


@pytest.mark.parametrize(
    "temperature, top_p, expected",
    [
        (1.0, None, [0.5, 0.3, 0.2]),
        (1.0, 1.0, [0.5, 0.3, 0.2]),
        (1.0, 0.7, [5 / 8, 3 / 8, 0]),  # the one that passes 0.7 is still in
        (1.0, 0.4, [1, 0, 0]),
        (1.0, 1e-9, [1, 0, 0]),
        (0.5, None, [25 / 38, 9 / 38, 4 / 38]),  # squares
        (0.5, 0.7, [25 / 34, 9 / 34, 0]),
        (0.001, None, [1, 0, 0]),
        (1000, None, [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_what_is_drawn_from(temperature, top_p, expected):
    logits = torch.tensor([[HALF, THIRD, FIFTH]])
    probs = warpers(Decoding(temperature, top_p))(None, logits).softmax(dim=-1)
    assert probs[0].tolist() == pytest.approx(expected, abs=1e-3 if temperature == 1000 else 1e-6)


def test_over_many_seeds_tokens_come_as_often_as_they_are_likely():
    logits, count = torch.tensor([[HALF, THIRD, FIFTH]]), 4000
    for top_p, expected in ((None, [0.5, 0.3, 0.2]), (0.7, [5 / 8, 3 / 8, 0])):
        seeds = [Decoding(1.0, top_p, seed=seed) for seed in range(count)]
        drawn = Counter(TokenChooser(seeds)(logits.expand(count, -1)).tolist())
        for token, probability in enumerate(expected):
            # Four standard deviations.
            spread = 4 * (probability * (1 - probability) / count) ** 0.5
            assert drawn[token] / count == pytest.approx(probability, abs=spread)


def test_a_row_draws_from_its_own_generator():
    logits = torch.randn(5, 3, 50, generator=torch.Generator().manual_seed(1))  # five steps
    how = [Decoding(1.0, seed=7), GREEDY, Decoding(2.0, 0.9, seed=8)]
    together = TokenChooser(how)
    alone = [TokenChooser([each]) for each in how]
    for step in logits:
        expected = [int(choose(row[None])) for choose, row in zip(alone, step)]
        assert together(step).tolist() == expected
        assert expected[1] == int(step[1].argmax())


def test_what_a_batch_was_filled_up_with_is_greedy():
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(2))
    assert TokenChooser([Decoding(5.0)])(logits)[1:].tolist() == logits[1:].argmax(-1).tolist()


def test_numbers_that_are_none_are_not_drawn_from():
    logits = torch.tensor([[0.0, torch.nan, 1.0]])
    assert TokenChooser([Decoding(1.0)])(logits).tolist() == logits.argmax(-1).tolist()


def test_an_answer_depends_on_its_sample_and_seed_only(model):
    hot = [sample_of(place, temperature=3.0, seed=place) for place in range(4)]
    mixed = [*hot, sample_of(0), sample_of(1, num_beams=3), sample_of(1, num_beams=2)]
    alone = [model.answer([sample])[0].out_ids for sample in mixed]
    memory = Memory()
    assert [a.out_ids for a in model.answer(mixed, memory=memory)] == alone
    torch.rand(3)  # nobody else's draws count
    backwards = model.answer(mixed[::-1], memory=memory)
    assert [a.out_ids for a in backwards[::-1]] == alone
    assert len({tuple(ids) for ids in alone[:4]}) == 4
    assert model.answer([sample_of(0, seed=99)])[0].out_ids != alone[0]


# Beams -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize("place", [0, 1])
def test_beams_are_those_of_transformers(model, num_beams, place):
    sample = sample_of(place, num_beams=num_beams, max_new_tokens=8)
    (answer,) = model.answer([sample])
    assert answer.out_ids == by_transformers(model, sample, num_beams=num_beams, do_sample=False)
    (greedy,) = model.answer([dataclasses.replace(sample, num_beams=1)])
    assert torch.allclose(answer.first_logits, greedy.first_logits, rtol=0, atol=1e-4)
    assert answer.first_logits.dtype == torch.float32


@torch.inference_mode()
@pytest.mark.parametrize("seed", range(4))
def test_enough_beams_find_the_best_of_all_answers(seed):
    """Against every answer of up to three tokens, written out."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=5,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.5,
    )
    llm, end = LlamaForCausalLM(config).eval(), 3
    embeds = torch.randn(4, 16)
    found = search_beams(llm, embeds, 60, 3, end, None)

    def mean_log_probability(ids):
        read = torch.cat([embeds, llm.get_input_embeddings()(torch.tensor(ids))])
        log_probs = llm(inputs_embeds=read[None]).logits[0, 3:-1].log_softmax(dim=-1)
        return log_probs[range(len(ids)), ids].mean()

    answers = [
        ids
        for length in (1, 2, 3)
        for ids in itertools.product(range(5), repeat=length)
        if end not in ids[:-1] and (ids[-1] == end or length == 3)
    ]
    assert found.out_ids == list(max(answers, key=mean_log_probability))
    assert torch.allclose(
        found.first_logits, llm(inputs_embeds=embeds[None]).logits[0, -1], atol=1e-5
    )


def test_an_answer_of_beams_comes_at_its_end(model):
    told = []
    samples = [sample_of(0), sample_of(1, num_beams=3)]
    answers = model.answer(samples, on_token=lambda *token: told.append(token))
    for place, answer in enumerate(answers):
        assert [token for where, token in told if where == place] == answer.out_ids
    pieces, chat = [], Chat(model, sample_of(0, max_new_tokens=5, num_beams=2))
    answer = chat.ask("What?", pieces.append)
    assert "".join(pieces).strip() == answer.text


# What is refused ---------------------------------------------------------------------------------

REFUSED = [
    ({"temperature": -0.1}, "temperature is -0.1; it must be 0"),
    ({"temperature": 1e-9}, "temperature is 1e-09"),
    ({"temperature": 1e9}, "a number from 0.001 to 1000"),
    ({"temperature": float("nan")}, "temperature is nan"),
    ({"temperature": float("inf")}, "temperature is inf"),
    ({"temperature": 1.0, "top_p": 0.0}, "top_p is 0.0; it must be above 0"),
    ({"temperature": 1.0, "top_p": 1.1}, "top_p is 1.1; it must be above 0, and 1 at most"),
    ({"top_p": 0.9}, "top_p has no effect at temperature 0"),
    ({"num_beams": 0}, "num_beams is 0; it must be a whole number from 1 to 64"),
    ({"num_beams": 65}, "num_beams is 65"),
    ({"num_beams": 2, "temperature": 0.5}, "leave out one of the two"),
]
NO_NUMBERS = [
    ({"temperature": "0.5"}, "temperature is '0.5'"),
    ({"temperature": True}, "temperature is True"),
    ({"temperature": None}, "temperature is None"),
    ({"temperature": 10**400}, "temperature is 1000"),
    ({"temperature": 1.0, "top_p": "a"}, "top_p is 'a'"),
    ({"num_beams": 2.0}, "num_beams is 2.0"),
    ({"num_beams": True}, "num_beams is True"),
]


@pytest.mark.parametrize("settings, says", REFUSED + NO_NUMBERS)
def test_python_refuses(model, settings, says):
    with pytest.raises(UserError) as caught:
        Accm(model).answer(IMAGES[0], "What?", **settings)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("settings, says", REFUSED)
def test_commands_refuse_before_a_model_is_loaded(settings, says, capsys, tmp_path):
    IMAGES[0].save(tmp_path / "p.png")
    image, flags = (
        str(tmp_path / "p.png"),
        [f"--{name}={value}" for name, value in settings.items()],
    )
    model = ["--model-path", "nowhere"]
    for main, more in (
        (cli.main, ["--image-file", image]),
        (run_llava.main, ["--image-file", image, "--query", "What?"]),
        (trace.main, ["--image", image, "--question", "What?"]),
    ):
        assert main([*model, *more, *flags]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1


def test_a_compiled_llm_searches_with_no_beams(capsys):
    with pytest.raises(UserError, match="--compile"):
        Decoding(num_beams=2).check(compiled=True)
    Decoding(1.0, 0.5).check(compiled=True)
    assert cli.main(["--compile", "--num-beams", "2"]) == 2
    assert "searches with no beams" in capsys.readouterr().err


def test_benchmarks_are_greedy(capsys):
    for arguments in (AskArguments, LmmsArguments):
        names = {field.name for field in dataclasses.fields(arguments)}
        assert not names & {"temperature", "top_p", "num_beams"}
    words = "--model-path nowhere --question-file q --answers-file a --temperature 0.2"
    assert model_vqa_loader.main(words.split()) == 2
    assert "benchmarks are answered greedily" in capsys.readouterr().err


# What goes through -------------------------------------------------------------------------------


def test_python_and_chat_hand_it_on(model):
    settings = {"temperature": 2.0, "top_p": 0.95, "seed": 5, "max_new_tokens": 6}
    sample = Sample(IMAGES[0], QUESTIONS[0], visual_token_num=36, **settings)
    (expected,) = model.answer([sample])
    result = Accm(model, 36).answer(IMAGES[0], QUESTIONS[0], **settings)
    talk = Chat(model, sample)
    assert result.answer.out_ids == talk.ask(QUESTIONS[0]).out_ids == expected.out_ids
    several = Accm(model, 36).answer(IMAGES[0], QUESTIONS * 2, batch_size=3, **settings)
    assert several[0].text == several[2].text == result.text
    beams = Accm(model, 36).answer(IMAGES[0], QUESTIONS[0], num_beams=3)
    assert beams.answer.decoding.num_beams == 3


def test_a_trace_says_how_tokens_were_chosen(model, monkeypatch, tmp_path, tiny_flags, capsys):
    monkeypatch.setattr("llava.eval.tracing.load_from_arguments", lambda args: model)
    IMAGES[0].save(tmp_path / "p.png")
    flags = ["--visual-token-num", "36", "--max-new-tokens", "6", "--seed", "9"]
    one = ["--image", str(tmp_path / "p.png"), "--question", QUESTIONS[0]]
    how = ["--temperature", "1.5", "--top-p", "0.9"]
    assert trace.main([*tiny_flags, *one, *flags, *how]) == 0
    record = json.loads(capsys.readouterr().out)
    chosen = {"temperature": 1.5, "top_p": 0.9, "num_beams": 1, "seed": 9}
    assert record["decoding"] == chosen
    (expected,) = model.answer([sample_of(0, temperature=1.5, top_p=0.9, seed=9)])
    assert record["out_ids"] == expected.out_ids

    base = {"image": "p.png", "question": QUESTIONS[0]}
    lines = [{"id": 1}, {"id": 2, "temperature": 0}, {"id": 3, "top_p": 7}]
    lines += [{"id": 4, "temperature": 0, "top_p": 1}]
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(base | line) for line in lines))
    many = ["--requests", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    assert trace.main([*tiny_flags, *many, *flags, "--temperature", "1.5"]) == 1
    first, second, third, fourth = map(
        json.loads, (tmp_path / "out.jsonl").read_text().splitlines()
    )
    assert first["decoding"] == chosen | {"top_p": None}
    assert second["decoding"] == chosen | {"top_p": None, "temperature": 0}
    assert "top_p is 7" in third["error"] and "no effect" in fourth["error"]


def test_llavas_command_draws(model, monkeypatch, tmp_path, tiny_flags, capsys):
    monkeypatch.setattr("llava.model.builder.load_from_arguments", lambda args: model)
    IMAGES[0].save(tmp_path / "p.png")
    flags = ["--image-file", str(tmp_path / "p.png"), "--query", QUESTIONS[0]]
    flags += ["--temperature", "0.9", "--top_p", "0.8", "--max_new_tokens", "6"]
    assert run_llava.main([*tiny_flags, *flags, "--visual-token-num", "36"]) == 0
    (expected,) = model.answer([sample_of(0, temperature=0.9, top_p=0.8)])
    assert capsys.readouterr().out == f"{expected.text}\n"
