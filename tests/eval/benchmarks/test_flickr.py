import json

import pytest

from llava.errors import UserError
from llava.eval.benchmarks.flickr import (
    PROMPT,
    answer_record,
    read_annotations,
    read_questions,
    read_references,
)

QUESTIONS = [
    {"question_id": 10, "image": "b.jpg", "text": "Describe it."},
    {"question_id": "11", "image": "a.jpg", "text": "And\nthis."},
]
FIVE = {"b.jpg": [f"b {n}" for n in range(5)], "a.jpg": [f"a {n}" for n in range(5)]}


def write_lines(folder, name, records, end="\n", encoding="utf-8"):
    text = "".join(json.dumps(record, ensure_ascii=False) + end for record in records)
    (folder / name).write_bytes(text.encode(encoding))


def write_karpathy(folder, five=FIVE, **splits):
    images = [
        {
            "filename": name,
            "split": splits.get(name[0], "test"),
            "sentences": [{"raw": caption} for caption in captions],
        }
        for name, captions in five.items()
    ]
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))


def write_token_file(folder, five=FIVE, name="results_20130124.token"):
    lines = [f"{image}#{n}\t{c}" for image, texts in five.items() for n, c in enumerate(texts)]
    (folder / name).write_text("\n".join(lines) + "\n")


def test_questions_of_llavas_file(tmp_path):
    write_lines(tmp_path, "questions-3k.jsonl", QUESTIONS)
    first, second = read_questions(tmp_path)
    assert (first.question_id, first.key) == (10, "10")
    assert first.image == tmp_path / "flickr30k-images" / "b.jpg"
    assert (second.question_id, second.key) == ("11", "11")
    assert second.prompt == second.tower_question == "And\nthis."  # all of it, not one line
    assert second.max_new_tokens == 128
    assert list(answer_record(first, "A dog.", "some-id", "some-model").items()) == [
        ("question_id", 10),
        ("prompt", "Describe it."),
        ("text", "A dog."),
        ("answer_id", "some-id"),
        ("model_id", "some-model"),
        ("metadata", {}),
    ]


@pytest.mark.parametrize("end, encoding", [("\r\n", "utf-8"), ("\n", "utf-8-sig")])
def test_other_line_ends_and_a_byte_order_mark(tmp_path, end, encoding):
    questions = [QUESTIONS[0] | {"text": "Qué?"}]
    write_lines(tmp_path, "questions.jsonl", questions, end, encoding)
    (tmp_path / "results.token").write_bytes(f"a.jpg#0\tcafé{end}".encode(encoding) * 5)
    assert read_questions(tmp_path)[0].prompt == "Qué?"
    if encoding == "utf-8":
        assert read_references(tmp_path).captions == {"a.jpg": ["café"] * 5}


def test_questions_from_elsewhere(tmp_path):
    write_lines(tmp_path, "questions.jsonl", QUESTIONS)
    write_lines(tmp_path, "other.jsonl", QUESTIONS[:1])
    assert len(read_questions(tmp_path, tmp_path / "other.jsonl")) == 1


def test_questions_from_captions(tmp_path):
    write_token_file(tmp_path)
    assert [(q.question_id, q.image.name) for q in read_questions(tmp_path)] == [
        (0, "b.jpg"),
        (1, "a.jpg"),
    ]
    write_karpathy(tmp_path, b="train")
    assert [(q.question_id, q.image.name) for q in read_questions(tmp_path)] == [(0, "a.jpg")]
    write_lines(tmp_path, "annotations.jsonl", [{"image": "c.jpg", "text": "A caption."}])
    (question,) = read_questions(tmp_path)
    assert (question.question_id, question.image.name, question.prompt) == (0, "c.jpg", PROMPT)


@pytest.mark.parametrize(
    "record, says",
    [
        ({"question_id": 1, "image": "b.jpg"}, "line 2 of .* is no question of LLaVA's"),
        (
            {"question_id": None, "image": "b.jpg", "text": ""},
            "line 2 of .* is no question of LLaVA's",
        ),
        ({"question_id": 1, "image": 3, "text": ""}, "line 2 of .* has the image 3, which"),
        ([], "line 2 of .* holds a list"),
        (QUESTIONS[0], "asks question '10' twice"),
    ],
)
def test_lines_that_are_no_question(tmp_path, record, says):
    write_lines(tmp_path, "questions.jsonl", [QUESTIONS[0], record])
    with pytest.raises(UserError, match=says):
        read_questions(tmp_path)


def test_folders_without_questions(tmp_path):
    with pytest.raises(UserError, match="no questions in .*annotations.jsonl.*https://"):
        read_questions(tmp_path)
    (tmp_path / "questions.jsonl").write_bytes(b'{"text": "caf\xe9"}')
    with pytest.raises(UserError, match="not UTF-8"):
        read_questions(tmp_path)
    (tmp_path / "questions-3k.jsonl").touch()
    with pytest.raises(UserError, match=r"more than one questions\*.jsonl .questions-3k.jsonl, "):
        read_questions(tmp_path)


def test_annotations_belong_to_questions_by_id_or_by_line(tmp_path):
    write_lines(tmp_path, "questions.jsonl", QUESTIONS)
    questions = read_questions(tmp_path)
    assert read_annotations(tmp_path, questions) is None
    by_id = [{"question_id": 11, "text": "second"}, {"question_id": 10, "text": "first"}]
    write_lines(tmp_path, "annotations.jsonl", by_id)
    assert read_annotations(tmp_path, questions) == (["first", "second"], 0)
    more = {"question_id": 12, "text": "third"}  # a caption that nobody asks for
    write_lines(tmp_path, "annotations.jsonl", [more, *by_id])
    assert read_annotations(tmp_path, questions) == (["first", "second"], 1)
    by_image = [{"image": name, "text": name} for name in ("a.jpg", "c.jpg", "b.jpg")]
    write_lines(tmp_path, "annotations.jsonl", by_image)
    assert read_annotations(tmp_path, questions) == (["b.jpg", "a.jpg"], 1)
    write_lines(tmp_path, "annotations.jsonl", [{"text": "one"}, {"text": "two"}])
    assert read_annotations(tmp_path, questions) == (["one", "two"], 0)


@pytest.mark.parametrize(
    "annotations, says",
    [
        ([{"text": "one"}], "1 captions without question_id, for 2 questions"),
        ([{"text": "one"}] * 3, "3 captions without question_id, for 2 questions"),
        ([{"question_id": i, "text": ""} for i in (10, 12)], "question_id '11' is not there"),
        ([{"question_id": 10, "text": ""}], "question_id '11' is not there"),
        ([{"question_id": None, "text": ""}], "line 1 of .* has a question_id that cannot be"),
        ([{"image": n, "text": ""} for n in ("a.jpg", "c.jpg")], "image 'b.jpg' is not there"),
        ([{"question_id": i, "text": ""} for i in (10, 11, 11)], "question_id twice"),
        ([{"caption": "one"}], "line 1 of .* has no 'text'"),
    ],
)
def test_annotations_that_do_not_fit(tmp_path, annotations, says):
    write_lines(tmp_path, "questions.jsonl", QUESTIONS)
    write_lines(tmp_path, "annotations.jsonl", annotations)
    with pytest.raises(UserError, match=says):
        read_annotations(tmp_path, read_questions(tmp_path))


def test_five_captions_per_image(tmp_path):
    assert read_references(tmp_path) is None
    write_token_file(tmp_path)
    assert read_references(tmp_path).captions == FIVE
    write_karpathy(tmp_path, b="val")
    references = read_references(tmp_path)
    assert references.captions == FIVE  # of all splits, as the authors' questions are of all
    assert references.asked() == ["a.jpg"]  # but nobody else asks beyond the test split


def test_what_is_wrong_where_nobody_asks_is_of_no_account(tmp_path):
    write_lines(tmp_path, "questions.jsonl", QUESTIONS)
    questions = read_questions(tmp_path)
    wanted = [FIVE["b.jpg"], FIVE["a.jpg"]]
    write_token_file(tmp_path)
    path = tmp_path / "results_20130124.token"
    path.write_text("c.jpg#0\tone\nd.jpg 1 two\n" + path.read_text())
    assert read_references(tmp_path).of(questions) == wanted
    odd = [{"filename": 5, "split": "train"}, {"filename": "c.jpg", "split": "val"}, 7]
    write_karpathy(tmp_path)
    path = tmp_path / "dataset_flickr30k.json"
    path.write_text(json.dumps({"images": odd + json.loads(path.read_text())["images"]}))
    assert read_references(tmp_path).of(questions) == wanted


def test_images_that_lost_a_caption_are_left_out_and_named(tmp_path):
    write_token_file(tmp_path)
    path = tmp_path / "results_20130124.token"
    path.write_text(path.read_text().replace("b.jpg#1\t", "b.jpg#1 "))
    with pytest.warns(UserWarning, match="left out: 'b.jpg' has 4; line 2 of .* is not '<name>"):
        (question,) = read_questions(tmp_path)
    assert question.image.name == "a.jpg"
    write_lines(tmp_path, "questions.jsonl", QUESTIONS)
    with pytest.raises(UserError, match="1 of 2 images have not 5 captions .*'b.jpg' has 4; line"):
        read_references(tmp_path).of(read_questions(tmp_path))


@pytest.mark.parametrize(
    "content, says",
    [
        ("no json", "is not valid JSON"),
        ("[]", "holds a list, not a JSON object"),
        ("{}", "is not Karpathy's dataset"),
        ('{"images": []}', "has no image with five captions"),
        ('{"images": [{"filename": "a.jpg"}]}', "image 1 of .*no text under split"),
        ('{"images": [{"filename": 5, "split": "test"}]}', "image 1 of .*filename 5 cannot be"),
        (
            '{"images": [{"filename": "a.jpg", "split": "test", "sentences": [{"raw": 5}]}]}',
            "image 1 of .*no text under raw",
        ),
    ],
)
def test_files_that_are_not_karpathys(tmp_path, content, says):
    (tmp_path / "dataset_flickr30k.json").write_text(content)
    with pytest.raises(UserError, match=says):
        read_questions(tmp_path)


def test_questions_are_the_same_from_every_file_of_the_fixtures(shared_benchmarks, tmp_path):
    folder = shared_benchmarks / "fixtures" / "flickr30k"
    theirs = read_questions(folder)
    lines = (folder / "answers" / "plain.jsonl").read_text().splitlines()
    for question, line in zip(theirs, lines, strict=True):
        record = json.loads(line)
        ours = answer_record(question, record["text"], record["answer_id"], record["model_id"])
        assert json.dumps(ours) == line
        assert question.image.is_file()
    for name in ("annotations.jsonl", "dataset_flickr30k.json", "results.token"):
        data = tmp_path / name.partition(".")[0]
        data.mkdir()
        (data / name).write_bytes((folder / name).read_bytes())
        built = read_questions(data)
        assert [q.prompt for q in built] == [q.prompt for q in theirs]
        assert [q.question_id for q in built] == [q.question_id for q in theirs]
        assert [q.image.name for q in built] == [q.image.name for q in theirs]


def test_both_files_of_five_captions_are_the_same(shared_benchmarks, tmp_path):
    folder = shared_benchmarks / "fixtures" / "flickr30k"
    (tmp_path / "results.token").write_bytes((folder / "results.token").read_bytes())
    assert read_references(tmp_path).captions == read_references(folder).captions
