"""Benchmark folders as people have them, and what can be wrong with one.

``sound_folders`` lays out the seven benchmarks with and without LLaVA's files; ``damages`` gives
everything that can be done to one of them, each as a name and a function of a copy.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from llava.eval.benchmarks import pope
from llava.eval.benchmarks.registry import FOLDERS, reader

LLAVA_FILES = {
    "mme": "llava_mme.jsonl",
    "pope": "llava_pope_test.jsonl",
    "seed": "llava-seed-bench.jsonl",
    "gqa": "llava_gqa_testdev_balanced.jsonl",
}
IMAGE_FOLDERS = {
    "mme": "MME_Benchmark_release_version",
    "pope": "val2014",
    "seed": ".",
    "gqa": "data/images",
}
# What stands in the place of a value. Python writes NaN and half a surrogate pair, too.
ODD_VALUES = (None, True, 5, 0.5, float("nan"), 10**400, "", "nan", "\ud800", "a\0b", "../../x")
ODD_VALUES += ("x" * 5000, "x\ny", "<image>", [], {}, [None])
APPLE_DOUBLE = b"\0\5\26\7\0\2\0\0Mac OS X        \0\2"

Damage = Callable[[Path], object]


def sound_folders(tiny: Path, root: Path) -> dict[str, tuple[str, Path]]:
    """Lays out the variants of each benchmark; gives benchmark and folder by the variant's name."""
    variants = {}
    for benchmark, (name, *_) in FOLDERS.items():
        folder = shutil.copytree(tiny / name, root / name)
        variants[benchmark] = (benchmark, folder)
        if benchmark in LLAVA_FILES:
            variants[f"{benchmark}-bare"] = (benchmark, shutil.copytree(folder, root / f"{name}-b"))
            write_llava_file(benchmark, folder)
    flickr = variants["flickr"][1]
    bare = shutil.copytree(flickr, root / "Flickr-b")
    for path in bare.glob("*-3k.jsonl"):
        path.unlink()
    token = shutil.copytree(flickr, root / "Flickr-token")
    write_token_file(token)
    annotations = shutil.copytree(flickr, root / "Flickr-annotations")
    for name in ("questions-3k.jsonl", "dataset_flickr30k.json"):
        (annotations / name).unlink()
    gqa = variants["gqa"][1]
    choices = {
        q.key: {"valid": ["yes"], "plausible": []} for q in reader("gqa").read_questions(gqa)
    }
    (gqa / "data/testdev_balanced_choices.json").write_text(json.dumps(choices))
    others = {"flickr-bare": bare, "flickr-token": token, "flickr-annotations": annotations}
    return variants | {name: ("flickr", folder) for name, folder in others.items()}


def write_llava_file(benchmark: str, folder: Path) -> None:
    """Writes LLaVA's question file of a benchmark that is there without it."""
    questions = reader(benchmark).read_questions(folder)
    categories = ["default"] * len(questions)
    if benchmark == "pope":
        categories = [item.category for item in pope.read_labelled_questions(folder).questions]
    records = [
        {
            "question_id": question.question_id,
            "image": question.image.relative_to(folder / IMAGE_FOLDERS[benchmark]).as_posix(),
            "text": question.prompt,
            "category": category,
        }
        for question, category in zip(questions, categories, strict=True)
    ]
    write_lines(folder / LLAVA_FILES[benchmark], records)


def write_token_file(folder: Path) -> None:
    """Puts the publisher's file of five captions in the place of Karpathy's."""
    path = folder / "dataset_flickr30k.json"
    lines = [
        f"{image['filename']}#{n}\t{sentence['raw']}\n"
        for image in json.loads(path.read_text())["images"]
        for n, sentence in enumerate(image["sentences"])
    ]
    (folder / "results_20130124.token").write_text("".join(lines))
    path.unlink()


def write_lines(path: Path, records: list) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def data_files(folder: Path) -> list[Path]:
    """The files below a folder that are no images; of those that are alike only one."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix not in (".jpg", "")]
    texts = [p for p in files if p.suffix == ".txt"]
    return [p for p in files if p.suffix != ".txt"] + texts[:1]


def harmless(folder: Path) -> Iterator[tuple[str, Damage]]:
    """What must change nothing."""
    for path in data_files(folder):
        name = path.relative_to(folder)
        yield f"{name}: byte order mark", partial(_rewrite, name, lambda b: b"\xef\xbb\xbf" + b)
        if path.suffix != ".token":
            crlf = partial(_rewrite, name, lambda b: b.replace(b"\n", b"\r\n"))
            yield f"{name}: CRLF", crlf
        if path.suffix in (".tsv", ".csv"):
            for change in TABLE_EDITS:
                yield f"{name}: {change.__name__}", partial(_edit_table, name, change)
    yield "hidden files", hide_files


def damages(folder: Path) -> Iterator[tuple[str, Damage]]:
    """What may be refused, in one line, or must go well."""
    for path in data_files(folder):
        name = path.relative_to(folder)
        for change in FILE_DAMAGES:
            yield f"{name}: {change.__name__}", partial(_damage_file, name, change)
        for change in BYTE_DAMAGES:
            yield f"{name}: {change.__name__}", partial(_rewrite, name, change)
        if path.suffix in (".json", ".jsonl"):
            for place in _places(_first_records(path)):
                for value in ODD_VALUES:
                    change = partial(_put, place, value)
                    yield (
                        f"{name}: {'/'.join(map(str, place))} is {value!r:.20}",
                        partial(_edit_json, name, change),
                    )
                yield (
                    f"{name}: no {'/'.join(map(str, place))}",
                    partial(_edit_json, name, partial(_take, place)),
                )
        if path.suffix in (".tsv", ".csv"):
            for column in _header(path):
                for cell in ("", "nan", "-1", "1.5", "x", "1", "9" * 30, "\u202e", "\0"):
                    change = partial(_set_cell, column, cell)
                    yield f"{name}: {column} is {cell!r}", partial(_edit_table, name, change)
                for change in (_drop_column, _rename_column, _double_column):
                    edit = partial(change, column)
                    yield f"{name}: {change.__name__} {column}", partial(_edit_table, name, edit)
            for change in (short_row, long_row, no_rows, same_row_twice, lone_row):
                yield f"{name}: {change.__name__}", partial(_edit_table, name, change)
    images = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix in (".jpg", "")]
    for path in images[:1]:
        name = path.relative_to(folder)
        for change in FILE_DAMAGES:
            yield f"image: {change.__name__}", partial(_damage_file, name, change)
        for change in BYTE_DAMAGES:
            yield f"image: {change.__name__}", partial(_rewrite, name, change)
    texts = sorted(folder.rglob("*.txt"))
    if texts:
        text = texts[0].relative_to(folder)
        for line in (b"Is it?\tPerhaps\nIs it?\tNo\n", b"Is it?\tYes\n", b"Is it?\tYes\n" * 2):
            yield f"{text}: {line!r:.20}", partial(_rewrite, text, lambda _, line=line: line)
        yield "name of bytes", partial(_rename, text, b"caf\xe9.txt")
        yield "long name", partial(_rename, text, b"x" * 251 + b".txt")


# Whole files.
def absent(path: Path) -> None:
    path.unlink()


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


FILE_DAMAGES = (absent, folder_instead, link_to_nothing, link_to_itself)


# Bytes.
def empty(content: bytes) -> bytes:
    return b""


def cut(content: bytes) -> bytes:
    return content[: 2 * len(content) // 3]


def latin1(content: bytes) -> bytes:
    return content.replace(b"a", b"\xe9")


def utf16(content: bytes) -> bytes:
    return content.decode("latin-1").encode("utf-16")


def zeros(content: bytes) -> bytes:
    return b"\0" * len(content)


def web_page(content: bytes) -> bytes:
    return b"<!DOCTYPE html><html><body>404</body></html>\n"


def pointer(content: bytes) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"


def twice(content: bytes) -> bytes:
    return content + b"\n" + content


def without_last_line(content: bytes) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:-1])


def nested(content: bytes) -> bytes:
    return b"[" * 100_000


def number(content: bytes) -> bytes:
    return b"5"


BYTE_DAMAGES = (empty, cut, latin1, utf16, zeros, web_page, pointer, twice, without_last_line)
BYTE_DAMAGES += (nested, number)


# Tables, as lists of rows of cells with the header first.
def columns_turned_round(rows: list) -> list:
    return [row[::-1] for row in rows]


def another_column(rows: list) -> list:
    return [["notes", *rows[0]], *(["x", *row] for row in rows[1:])]


def unnamed_index_column(rows: list) -> list:
    return [["", *rows[0]], *([str(n), *row] for n, row in enumerate(rows[1:]))]


def index_of_pandas(rows: list) -> list:
    return [["Unnamed: 0", *rows[0]], *([str(n), *row] for n, row in enumerate(rows[1:]))]


def indices_are_floats(rows: list) -> list:
    return [rows[0], *([f"{row[0]}.0", *row[1:]] for row in rows[1:])]


def capital_names(rows: list) -> list:
    return [[f" {name.upper()} " for name in rows[0]], *rows[1:]]


def empty_rows(rows: list) -> list:
    return [*rows, [""] * len(rows[0]), []]


def with_commas(rows: list) -> tuple[list, str]:
    return rows, ","


def with_semicolons(rows: list) -> tuple[list, str]:
    return rows, ";"


TABLE_EDITS = (columns_turned_round, another_column, unnamed_index_column, index_of_pandas)
TABLE_EDITS += (indices_are_floats, capital_names, empty_rows, with_commas, with_semicolons)


def short_row(rows: list) -> list:
    return [*rows[:-1], rows[-1][:-1]]


def long_row(rows: list) -> list:
    return [*rows[:-1], [*rows[-1], "more"]]


def no_rows(rows: list) -> list:
    return rows[:1]


def same_row_twice(rows: list) -> list:
    return [*rows, rows[-1]]


def lone_row(rows: list) -> list:
    return rows[:2]


def _set_cell(column: str, cell: str, rows: list) -> list:
    place = rows[0].index(column)
    return [*rows[:-1], [*rows[-1][:place], cell, *rows[-1][place + 1 :]]]


def _drop_column(column: str, rows: list) -> list:
    place = rows[0].index(column)
    return [row[:place] + row[place + 1 :] for row in rows]


def _rename_column(column: str, rows: list) -> list:
    return [[f"{name}_x" if name == column else name for name in rows[0]], *rows[1:]]


def _double_column(column: str, rows: list) -> list:
    place = rows[0].index(column)
    return [[*row, row[place]] for row in rows]


def _header(path: Path) -> list[str]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file, delimiter=delimiter))


def _edit_table(name: Path, change: Callable, folder: Path) -> None:
    path = folder / name
    delimiter = "\t" if path.suffix == ".tsv" else ","
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8"), newline=""), delimiter=delimiter))
    changed = change(rows)
    rows, delimiter = changed if isinstance(changed, tuple) else (changed, delimiter)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


# JSON and JSON lines; of these the first record is changed.
def _first_records(path: Path) -> object:
    text = path.read_text("utf-8")
    return json.loads(text.splitlines()[0]) if _is_lines(text) else json.loads(text)


def _is_lines(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return True
    return False


def _places(value: object, place: tuple = (), depth: int = 4) -> Iterator[tuple]:
    """Each place in a JSON value; of things that are alike only the first."""
    if depth == 0:
        return
    items = list(value.items()) if isinstance(value, dict) else []
    items = [(0, value[0])] if isinstance(value, list) and value else items
    if len(items) > 3 and all(isinstance(inner, dict) for _, inner in items):
        items = items[:1]
    for key, inner in items:
        yield (*place, key)
        yield from _places(inner, (*place, key), depth - 1)


def _put(place: tuple, odd: object, value: object) -> None:
    for key in place[:-1]:
        value = value[key]
    value[place[-1]] = odd


def _take(place: tuple, value: object) -> None:
    for key in place[:-1]:
        value = value[key]
    del value[place[-1]]


def _edit_json(name: Path, change: Callable, folder: Path) -> None:
    path = folder / name
    text = path.read_text("utf-8")
    if not _is_lines(text):
        value = json.loads(text)
        change(value)
        path.write_text(json.dumps(value))
        return
    first, *others = text.splitlines(keepends=True)
    value = json.loads(first)
    change(value)
    path.write_text(json.dumps(value) + "\n" + "".join(others))


def _damage_file(name: Path, change: Callable, folder: Path) -> None:
    change(folder / name)


def _rewrite(name: Path, change: Callable, folder: Path) -> None:
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


def _rename(name: Path, new: bytes, folder: Path) -> None:
    path = folder / name
    os.rename(path, os.path.join(os.fsencode(path.parent), new))


def hide_files(folder: Path) -> None:
    """What macOS and Windows leave in every folder and beside every file."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.with_name(f"._{path.name}").write_bytes(APPLE_DOUBLE)
    for path in [folder, *(p for p in folder.rglob("*") if p.is_dir())]:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (path / name).write_bytes(APPLE_DOUBLE)
