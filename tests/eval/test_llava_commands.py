"""LLaVA's own command lines."""

import base64
import csv
import io
import json

import pytest
from PIL import Image

from llava.eval import model_vqa_caption, model_vqa_loader, model_vqa_mmbench
from llava.eval.llava_commands import chunk

KEYS = ["question_id", "prompt", "text", "answer_id", "model_id", "metadata"]


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        Image.effect_noise((50, 40), 60).convert("RGB").save(tmp_path / f"{name}.jpg")
    lines = [
        {"question_id": "a.jpg", "image": "a.jpg", "text": "Is it red?\nAnswer.", "category": "x"},
        {"question_id": "a.jpg", "image": "a.jpg", "text": "Is it big?\nAnswer.", "category": "x"},
        {"question_id": 7, "image": "b.jpg", "text": "Is it red?\nAnswer.", "category": "x"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "questions.jsonl").write_text(text)
    return tmp_path


@pytest.fixture
def flags(folder, tiny_flags, monkeypatch, model):
    monkeypatch.setattr("llava.eval.caches.load_from_arguments", lambda args: model)
    words = f"--question-file {folder}/questions.jsonl --image-folder {folder}"
    return [*tiny_flags, *words.split(), "--answers-file", str(folder / "answers.jsonl")]


def records(folder):
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def test_the_loader_with_llavas_flags(flags, folder):
    words = "--conv-mode vicuna_v1 --temperature 0 --num_beams 1 --max_new_tokens 3"
    assert model_vqa_loader.main([*flags, *words.split()]) == 0
    answers = records(folder)
    assert [list(record) for record in answers] == [KEYS] * 3
    assert [record["question_id"] for record in answers] == ["a.jpg", "a.jpg", 7]
    assert [record["prompt"] for record in answers][1] == "Is it big?\nAnswer."
    assert len({record["answer_id"] for record in answers}) == 3


def test_a_chunk_is_a_block(flags, folder):
    words = "--num-chunks 2 --chunk-idx 1 --max_new_tokens 2"
    assert model_vqa_loader.main([*flags, *words.split()]) == 0
    assert [record["question_id"] for record in records(folder)] == [7]


@pytest.mark.parametrize("n, count, sizes", [(10, 3, [4, 4, 2]), (3, 1, [3]), (4, 2, [2, 2])])
def test_chunks_are_llavas(n, count, sizes):
    assert [len(chunk(list(range(n)), count, i)) for i in range(count)] == sizes


def test_captions_hand_the_whole_text_to_the_method(flags, folder, monkeypatch, model):
    seen = []
    encode = model.clip_tokenizer.encode
    monkeypatch.setattr(
        model.clip_tokenizer, "encode", lambda text, n: seen.append(text) or encode(text, n)
    )
    assert model_vqa_caption.main([*flags, "--max_new_tokens", "2"]) == 0
    assert set(seen) == {"Is it red?\nAnswer.", "Is it big?\nAnswer."}
    assert list(records(folder)[0]) == KEYS


def test_mmbench_with_llavas_flags(flags, folder):
    picture = io.BytesIO()
    Image.new("RGB", (30, 30), "red").save(picture, "JPEG")
    header = "index question hint A B C D answer category image source l2-category comment split"
    row = [3, "Which?", "A hint.", "red", "blue", "", "", "A", "c"]
    row += [base64.b64encode(picture.getvalue()).decode(), "s", "l", "", "dev"]
    with (folder / "table.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([header.split(), row])
    place = flags.index("--question-file") + 1
    flags[place] = str(folder / "table.tsv")
    words = "--single-pred-prompt --lang en --temperature 0 --conv-mode vicuna_v1"
    assert model_vqa_mmbench.main([*flags, *words.split()]) == 0
    (record,) = records(folder)
    assert record["prompt"] == "A hint.\nWhich?\nA. red\nB. blue"
    assert (record["options"], record["option_char"]) == (["red", "blue"], ["A", "B"])
    assert (record["question_id"], record["round_id"]) == (3, 0)


@pytest.mark.parametrize(
    "words, says",
    [
        ("--temperature 0.2", "--temperature 0.2 is not supported"),
        ("--num_beams 3", "--num-beams 3 is not supported"),
        ("--model-base x", "--model-base x is not supported"),
        ("--conv-mode llava_v0", "--conv-mode llava_v0 is not supported, only vicuna_v1 is"),
        ("--top_p 0.9", "--top-p 0.9 is not supported, leave it out"),
        ("--no-image --text-token-num 3", "no effect with --no-image"),
        ("--num-chunks 2 --chunk-idx 2", "counts from 0"),
        ("--num-chunks 9 --chunk-idx 8", "is empty"),
        ("--question-file gone.jsonl", "there is no file gone.jsonl"),
    ],
)
def test_what_is_not_supported_says_so(flags, capsys, words, says):
    assert model_vqa_loader.main([*flags, *words.split()]) == 2
    assert says in capsys.readouterr().err
