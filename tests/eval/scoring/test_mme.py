import json
import os

import pytest
from PIL import Image

from llava.errors import UserError
from llava.eval.benchmarks.mme import (
    COGNITION,
    PERCEPTION,
    finder,
    question_key,
    read_questions,
)
from llava.eval.scoring.mme import headline, predicted_label, score

SUFFIX = "\nAnswer the question using a single word or phrase."
APART = ("posters", "celebrity", "scene", "landmark", "artwork")


@pytest.fixture
def data_dir(tmp_path):
    """Each task with one image; color has a second one."""
    release = tmp_path / "MME" / "MME_Benchmark_release_version"
    for task in PERCEPTION + COGNITION:
        write(release, task, "0001", [("Is it so?", "Yes"), ("Is it not?", "No")])
    write(release, "color", "0002", [("Is it so?", "No"), ("Is it blue?", "Yes")], gap="  ")
    return tmp_path / "MME"


def write(release, task, name, questions, gap=" "):
    apart = task in APART
    texts = release / task / ("questions_answers_YN" if apart else ".")
    images = release / task / ("images" if apart else ".")
    for folder in (texts, images):
        folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{q}{gap}Please answer yes or no.\t{answer}" for q, answer in questions]
    (texts / f"{name}.txt").write_text("\n".join(lines))
    Image.new("RGB", (4, 4)).save(images / f"{name}.{'jpg' if apart else 'png'}")


def answers(data_dir, said):
    """Answers by key; "Yes" to everything else."""
    return [
        {"question_id": q.question_id, "prompt": q.prompt, "text": said.get(q.key, "Yes")}
        for q in read_questions(data_dir)
    ]


def test_questions_are_built_from_the_release(data_dir):
    questions = read_questions(data_dir)
    assert len(questions) == 30
    color = [q for q in questions if q.key.startswith("color")]
    assert [q.question_id for q in color] == ["color/0001.png"] * 2 + ["color/0002.png"] * 2
    assert color[3].prompt == "Is it blue?" + SUFFIX
    assert color[3].tower_question == "Is it blue?"
    assert color[3].key == "color/0002 Is it blue?"
    scene = next(q for q in questions if q.key.startswith("scene"))
    assert scene.question_id == "scene/images/0001.jpg"
    assert scene.image.is_file()


def test_the_image_of_an_id_ends_at_its_first_dot():
    assert question_key("scene/images/a.b.jpg", "Why?" + SUFFIX) == "scene/a Why?"
    assert question_key("scene/a.png", "Why?  Please answer yes or no.") == "scene/a Why?"


@pytest.mark.parametrize(
    "text, says",
    [
        ("Yes", "yes"),
        ("Yes, there is", "yes"),
        ("Eyes", "yes"),
        ("(yes", "yes"),
        ("NO", "no"),
        ("know", "no"),
        ("None", "no"),
        ("Nobody", "no"),
        ("Not really", "no"),
        ("Si, no", "other"),
        ("n o", "other"),
        ("Maybe", "other"),
        ("unknown", "other"),
        ("I think yes", "other"),
        ("There is no dog", "other"),
        ("", "other"),
        ("Yes\nThere is one.", "yes"),  # the official files break here
        ("No\tdefinitely", "no"),
    ],
)
def test_what_an_answer_says(text, says):
    assert predicted_label(text) == says


def test_a_task_worked_by_hand(data_dir):
    said = {"color/0001 Is it not?": "No", "color/0002 Is it blue?": "Maybe"}
    scores = score(data_dir, answers(data_dir, said))
    assert scores["tasks"]["color"] == {
        "TP": 1,
        "FN": 0,
        "TN": 1,
        "FP": 1,
        "precision": 0.5,
        "recall": 1.0,
        "other_num": 1,
        "acc": 0.5,
        "acc_plus": 0.5,
        "score": 100.0,
        "scored_questions": 4,
        "result_lines": 4,
        "images_in_denominator": 2,
    }
    assert scores["tasks"]["count"]["score"] == 50.0
    assert (scores["perception"], scores["cognition"], scores["total"]) == (550.0, 200.0, 750.0)
    assert scores["questions"]["color/0002 Is it so?"] == 0
    assert headline(scores) == (
        "MME: perception 550.00 of 2000, cognition 200.00 of 800 (total 750.00)"
    )


def test_a_missing_answer_is_wrong_and_shifts_nothing(data_dir):
    records = answers(data_dir, {"color/0001 Is it not?": "No"})
    kept = [r for r in records if r["question_id"] != "color/0002.png"]
    with pytest.raises(UserError, match="2 of 30 questions .*color/0002 Is it so.*color/0002 Is"):
        score(data_dir, kept)
    scores = score(data_dir, kept, allow_missing=True)
    assert scores["missing"] == ["color/0002 Is it so?", "color/0002 Is it blue?"]
    assert scores["tasks"]["color"]["acc"] == 0.5
    assert scores["tasks"]["color"]["acc_plus"] == 0.5
    assert scores["tasks"]["color"]["result_lines"] == 2


def test_both_questions_of_an_image_share_their_id_but_not_their_answers(data_dir):
    records = answers(data_dir, {})
    asked_else = records[0] | {"prompt": "Is it cold?" + SUFFIX}
    with pytest.raises(UserError, match="1 of 31 answers are, by id and question, to no question"):
        score(data_dir, [*records, asked_else])


@pytest.mark.parametrize(
    "content, says",
    [
        (b"Is it so? Please answer yes or no.\tYes\n", "holds 1 questions instead of two"),
        (b"Is it so? Please answer yes or no. Yes\nIs it?\tNo\n", "expected a question, a tab"),
        (b"Is it so?\tPerhaps\nIs it?\tNo\n", "expected a question, a tab"),
        (b"Is it caf\xe9?\tYes\nIs it?\tNo\n", "not UTF-8"),
    ],
)
def test_a_text_that_is_not_right(data_dir, content, says):
    records = answers(data_dir, {})
    (data_dir / "MME_Benchmark_release_version" / "count" / "0001.txt").write_bytes(content)
    with pytest.raises(UserError, match=f"(?s)count.*0001.txt.*{says}"):
        score(data_dir, records)


def test_a_release_that_is_not_whole(data_dir):
    count = data_dir / "MME_Benchmark_release_version" / "count"
    (count / "0001.png").unlink()  # costs its two answers, not the run
    assert sum(q.image == count / "0001.jpg" for q in read_questions(data_dir)) == 2
    (count / "0001.txt").unlink()
    with pytest.raises(UserError, match="count holds no questions"):
        read_questions(data_dir)
    count.rmdir()
    with pytest.raises(UserError, match="there is no .*count: MME's folder holds"):
        read_questions(data_dir)


def test_labels_in_other_words(data_dir):
    """LLaVA's file and the release as two people have copied them."""
    records = answers(data_dir, {})
    wanted = score(data_dir, records)["total"]
    lines = [
        {"question_id": q.question_id, "image": q.question_id, "text": q.prompt}
        for q in read_questions(data_dir)
    ]
    (data_dir / "llava_mme.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in data_dir.rglob("*.txt"):
        text = path.read_text().replace("Is it", "is it").replace("? P", " ? p")
        path.write_text(text.replace("no.", "no"))
    scores = score(data_dir, records)
    assert scores["total"] == wanted
    assert set(scores["questions"]) == {q.key for q in read_questions(data_dir)}


def test_questions_that_only_punctuation_tells_apart(data_dir):
    find = finder(["color/a Is it 3+4?", "color/a Is it 3-4?", "color/b Is it so?"])
    assert find("color/a Is it 3-4?") == "color/a Is it 3-4?"
    assert find("color/a Is it 3 - 4?") is None
    assert find("color/b is it so ?  Please answer yes or no.") == "color/b Is it so?"


def test_files_that_mac_os_and_other_character_sets_leave(data_dir):
    count = data_dir / "MME_Benchmark_release_version" / "count"
    (count / "._0001.txt").write_bytes(b"\0\5\26\7")
    assert len(read_questions(data_dir)) == 30
    os.rename(count / "0001.txt", os.fsencode(count) + b"/caf\xe9.txt")
    with pytest.raises(
        UserError, match=r"count/'caf\\udce9.txt'.* not Unicode .*rename it"
    ) as told:
        read_questions(data_dir)
    str(told.value).encode("utf-8")


def test_a_task_that_is_not_asked_about(data_dir):
    questions = [q for q in read_questions(data_dir) if not q.key.startswith("count")]
    lines = [
        {"question_id": q.question_id, "image": q.question_id, "text": q.prompt} for q in questions
    ]
    (data_dir / "llava_mme.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="asks nothing of count: the score is a sum over all 14"):
        score(data_dir, answers(data_dir, {}))
