"""Style: ruff is content, and the project's former private words stay out of its prose."""

import ast
import importlib.util
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted([*ROOT.glob("llava/**/*.py"), *ROOT.glob("scripts/**/*.py")])
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]

# Words that only this project used, or that it gave a meaning of its own -> plain ones. A space
# stands for any white space.
DENIED = {
    r"\banew\b": "again",
    r"\bso many\b(?! (?:that|as)\b)": "that many, or the name of the number",
    r"\b(?:is|are|was|were) told\b(?! (?:apart|by|from|that|to)\b)": "is reported, receives",
    r"\bborne\b(?! out\b)": "under load",
    r"\bin (?:the same|a|its) company\b": "in the same batch",
    r"\bits\.": "a full sentence",
    r"\bheed(?:s|ed|ing)?\b": "respect, take into account",
    r"\bto be had\b": "is missing, is not available",
    r"\blets? (?:it|them) be made\b": "computes it",
    r"\bquestion_of_the_method\b": "text_query",
    r"\bread_(?:ahead|system)\b": "prefill_ahead, prefill_system",
    r"\bEncodedImage\b": "VisualTokens",
    r"\bwhat is what\b": "a plain noun",
    r"(?:^|\. )Of what\b": "a full sentence",
    r"\bof then\b": "of that time, the earlier ...",
    r"\bcomes? along\b": "is part of the repository",
    r"\bhands? (?:it |them )?on\b": "passes on, returns",
    r"\bha(?:s|ve) (?:a|no) say\b": "depends on, reads",
    r"\bnotes? down\b": "records",
    r"\bmeans? nothing\b": "has no meaning",
    r"\blast but one\b": "second-to-last",
    r"\bof equals\b": "of equal ones",
    r"\bagain and again\b": "greedily, repeatedly",
}


def run_ruff(*words: str) -> None:
    if importlib.util.find_spec("ruff") is None:
        pytest.skip("ruff is not installed: the extra 'test' has it")
    command = [sys.executable, "-m", "ruff", *words, "."]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_ruff_finds_nothing():
    run_ruff("check", "--no-cache", "--output-format", "concise")


def test_all_files_are_formatted():
    run_ruff("format", "--check", "--no-cache")


def prose_of(module: str) -> Iterator[str]:
    """The docstrings of a module, and its comments as one text."""
    for node in ast.walk(ast.parse(module)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node) or ""
    tokens = tokenize.generate_tokens(io.StringIO(module).readline)
    yield "\n".join(token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT)


def denied_in(prose: str) -> list[str]:
    """Each private word in a text with what surrounds it, and what to write."""
    found = []
    for pattern, instead in DENIED.items():
        for match in re.finditer(pattern.replace(" ", r"\s+"), prose):
            around = prose[max(match.start() - 40, 0) : match.end() + 40]
            found.append(f"{match[0]!r} in {' '.join(around.split())!r}: rather {instead}")
    return found


def test_no_private_words():
    texts = [(path, text) for path in MODULES for text in prose_of(path.read_text("utf-8"))]
    texts += [(path, path.read_text("utf-8")) for path in PAGES]
    found = [f"{path.relative_to(ROOT)}: {hit}" for path, text in texts for hit in denied_in(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Asks\n    anew, with so\nmany tokens. Of what is read.", 3),
        ("The rotation is not heeded, and that is told in a line, its.", 3),
        ("# it is told to wait; the two are told apart; they cannot be told from each other", 0),
        ("There are so many that none fits; it's a new company, and its size is known.", 0),
        ("It comes\nalong, hands them on, and means nothing; it is the last but one.", 4),
        ("What is at hand, beforehand on paper; the question may say: it goes on.", 0),
        ("Here is what the tower reads, made of what is there; it is borne out by the tests.", 0),
    ],
)
def test_what_counts_as_a_private_word(text, count):
    assert len(denied_in(text)) == count
