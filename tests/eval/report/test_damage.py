"""Result files, references and journals that are damaged: a report or one clear error."""

from __future__ import annotations

import json

from llava.eval.report.circumstances import read_circumstances
from llava.eval.report.comparison import compare
from llava.eval.report.journal import read_entries
from llava.eval.report.references import read_references, set_beside
from llava.eval.report.runs import read_run
from llava.eval.report.table import csv_table, markdown_report

SCORES = [1, 0, 1]


def test_any_bytes_are_read_as_a_result_file(fuzz, workshop):
    path = workshop.result("a", SCORES, missing=["q2"])
    sound = path.read_bytes()

    def read(content: bytes) -> None:
        path.write_bytes(content)
        run = read_run(path)
        comparison = compare([run])
        (markdown_report(comparison, [run]) + csv_table(comparison)).encode(
            "utf-8", "backslashreplace"
        )

    fuzz(read, [sound, sound.replace(b'"missing"', b'"old"')])


def test_any_bytes_are_read_as_references(fuzz, workshop):
    run = read_run(workshop.result("a", SCORES))
    path = workshop.folder / "references.json"
    number = {"benchmark": "pope", "model": "llava-v1.5-7b", "method": "accm", "tokens": 36}
    number |= {"number": "main_number.value", "value": 80, "times": 100, "source": "a paper"}

    def read(content: bytes) -> None:
        path.write_bytes(content)
        for one in set_beside(read_references(path), [run]):
            assert all(isinstance(cell, str) for cell in one.cells())

    fuzz(read, [json.dumps({"numbers": [number, number | {"tokens": 576}]}).encode()])


def test_any_bytes_are_read_as_a_journal(fuzz, workshop):
    workshop.journal("a", ["yes", "no"], kept=[1, 2], captions=["a", "b", "c"])
    (path,) = workshop.folder.glob("a.jsonl.run/*")

    def read(content: bytes) -> None:
        path.write_bytes(content)
        for entry in read_entries(workshop.folder / "a.jsonl", {"q1", "q2"}).values():
            assert isinstance(entry.text, str)

    fuzz(read, [path.read_bytes()])


def test_any_bytes_are_read_as_sessions(fuzz, tmp_path):
    folder = tmp_path / "a.jsonl.run"
    folder.mkdir()
    path = folder / "sessions-0.log"
    line = {"date": "2026-11-26", "machine": "a", "questions": 3, "seconds": 1.5}

    def read(content: bytes) -> None:
        path.write_bytes(content)
        made = read_circumstances({"seed": 1}, tmp_path / "a.jsonl")
        assert made.seconds is None or made.seconds >= 0

    fuzz(read, [(json.dumps(line) + "\n").encode() * 2])
