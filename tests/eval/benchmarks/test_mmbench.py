import base64
import csv
import json

import pytest

from llava.constants import OPTION_LETTER_SUFFIX
from llava.errors import UserError
from llava.eval.benchmarks.mmbench import FILE, answer_record, read_questions, read_rows

HEADER = [
    *("index", "question", "hint", "A", "B", "C", "D"),
    *("answer", "category", "image", "source", "l2-category", "comment", "split"),
]
PICTURE = base64.b64encode(b"a picture").decode()


def row(index, question="Which?", hint="", options=("one", "two", "", ""), image=PICTURE):
    labels = ("A", "counting", image, "", "logic_reasoning", "", "dev")
    return [index, question, hint, *options, *labels]


def write_table(folder, rows, header=HEADER, end="\n", encoding="utf-8"):
    with (folder / FILE).open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter="\t", lineterminator=end).writerows([header, *rows])
    return folder


def test_a_question_without_hint(tmp_path):
    (question,) = read_questions(write_table(tmp_path, [row(7)]))
    assert (question.key, question.question_id, question.image) == ("7", 7, b"a picture")
    assert question.tower_question == "Which?\nA. one\nB. two"
    assert question.prompt == question.tower_question + OPTION_LETTER_SUFFIX
    assert question.max_new_tokens == 1024


def test_the_hint_is_cut_out_by_a_plain_replace(tmp_path):
    hinted = row(7, "Is it two?", "two", ("one", "two", "", ""))
    (question,) = read_questions(write_table(tmp_path, [hinted]))
    assert question.prompt == "two\nIs it two?\nA. one\nB. two" + OPTION_LETTER_SUFFIX
    assert question.tower_question == "\nIs it ?\nA. one\nB. "


@pytest.mark.parametrize("hint", ["", "nan", "None", "NONE"])
def test_no_hint(tmp_path, hint):
    (question,) = read_questions(write_table(tmp_path, [row(7, hint=hint)]))
    assert question.tower_question == "Which?\nA. one\nB. two"


@pytest.mark.parametrize("nothing", ["", "nan", "NaN", "none", "None", "NONE", "NA", "null"])
def test_options_end_at_the_first_that_is_none(tmp_path, nothing):
    options = ("one", "two", nothing, "four")
    folder = write_table(tmp_path, [row(7, options=options)])
    (question,) = read_questions(folder)
    assert question.extra == {"options": ["one", "two"], "option_char": ["A", "B"]}
    assert question.prompt.startswith("Which?\nA. one\nB. two\nAnswer")
    assert "D" in read_rows(folder)[0].options  # still an answer, for the scorer


def test_the_answer_record(tmp_path):
    (question,) = read_questions(write_table(tmp_path, [row(7, hint="a hint")]))
    record = answer_record(question, "B", "some-id", "some-model")
    assert list(record.items()) == [
        ("question_id", 7),
        ("round_id", 0),
        ("prompt", "a hint\nWhich?\nA. one\nB. two"),
        ("text", "B"),
        ("options", ["one", "two"]),
        ("option_char", ["A", "B"]),
        ("answer_id", "some-id"),
        ("model_id", "some-model"),
        ("metadata", {}),
    ]


@pytest.mark.parametrize("end, encoding", [("\r\n", "utf-8"), ("\n", "utf-8-sig")])
def test_other_line_ends_and_a_byte_order_mark(tmp_path, end, encoding):
    table = [row(7, "How many？", f"two{end}lines"), row(1000007)]
    questions = read_questions(write_table(tmp_path, table, end=end, encoding=encoding))
    assert [question.question_id for question in questions] == [7, 1000007]
    assert questions[0].prompt.startswith("two\nlines\nHow many？\nA. one")


def test_a_large_picture_and_a_broken_one(tmp_path):
    large = bytes(range(256)) * 4000
    table = [row(1, image=base64.b64encode(large).decode()), row(2, image="broken")]
    questions = read_questions(write_table(tmp_path, table))
    assert [question.image for question in questions] == [large, b"broken"]


def test_a_table_elsewhere(tmp_path):
    table = write_table(tmp_path, [row(7)]) / FILE
    assert len(read_questions(tmp_path / "gone", table)) == 1


@pytest.mark.parametrize(
    "rows, says",
    [
        ([row(7), row(8)[:-1]], "row ending on line 3: it has 13 cells, the header has 14"),
        ([row(7) + ["more"]], "row ending on line 2: it has 15 cells, the header has 14"),
        ([row(7, question='a "quote'), row("x")], "line 3: the index 'x' is not a whole number"),
        ([row(7), row(7)], "line 3: the index 7 is there twice"),
        ([], "no rows"),
    ],
)
def test_broken_rows(tmp_path, rows, says):
    with pytest.raises(UserError, match=says):
        read_questions(write_table(tmp_path, rows))


def test_a_quote_that_is_never_closed(tmp_path):
    path = write_table(tmp_path, [row(7), row(8)]) / FILE
    path.write_text(path.read_text().replace("Which?", '"Which?', 1))
    with pytest.raises(UserError, match="unexpected end of data"):
        read_questions(tmp_path)


def test_no_table_another_table_and_no_text(tmp_path):
    with pytest.raises(UserError, match=f"there is no .*{FILE}.*get it from https://"):
        read_questions(tmp_path)
    write_table(tmp_path, [], header=["index", "question"])
    with pytest.raises(UserError, match="lacks the column hint, A, B, C, D, image"):
        read_questions(tmp_path)
    (tmp_path / FILE).write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_questions(tmp_path)


def test_questions_and_records_of_the_fixtures(shared_benchmarks):
    folder = shared_benchmarks / "fixtures" / "mmbench"
    questions = read_questions(folder)
    lines = (folder / "answers" / "mmbench_dev_20230712" / "plain.jsonl").read_text().splitlines()
    for question, line in zip(questions, lines, strict=True):
        theirs = json.loads(line)
        ours = answer_record(question, theirs["text"], theirs["answer_id"], theirs["model_id"])
        assert json.dumps(ours) == line
    assert all(question.image.startswith(b"\xff\xd8") for question in questions)


def test_a_picture_that_another_row_has(tmp_path):
    table = [row(7), row(1000007, image="7"), row(2000007, image="1000007.0"), row(8, image="8")]
    table += [row(9, image="10"), row(10, image="9"), row(11, image="99")]
    pictures = [q.image for q in read_questions(write_table(tmp_path, table))]
    assert pictures[:3] == [b"a picture"] * 3
    assert pictures[0] is pictures[1] is pictures[2]  # kept in memory once
    # Rows that name each other, or one that is not there: no picture, which costs their answers.
    assert not any(b"picture" in picture for picture in pictures[3:])


def test_tables_under_another_name(tmp_path):
    (write_table(tmp_path, [row(7)]) / FILE).rename(tmp_path / "mmbench_test_en.tsv")
    (tmp_path / "._mmbench_test_en.tsv").write_bytes(b"x")
    assert len(read_questions(tmp_path)) == 1
    (tmp_path / "mmbench_dev_cn.tsv").touch()
    with pytest.raises(UserError, match="several tables .mmbench_dev_cn.tsv, mmbench_test_en.tsv"):
        read_questions(tmp_path)
    write_table(tmp_path, [row(7)])
    assert len(read_questions(tmp_path)) == 1


@pytest.mark.parametrize("index", ["", "nan", "1.5", "-7", "1_000", "9" * 40])
def test_an_index_that_cannot_be(tmp_path, index):
    with pytest.raises(UserError, match="line 2: the index .* is not a whole number"):
        read_questions(write_table(tmp_path, [row(index)]))


def test_a_column_that_is_there_twice(tmp_path):
    with pytest.raises(UserError, match="has the column A twice"):
        read_questions(write_table(tmp_path, [[*row(7), "x"]], [*HEADER, "a"]))
