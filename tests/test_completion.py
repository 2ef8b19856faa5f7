"""What a shell completes, asked of a shell."""

import shutil
import subprocess

import pytest

from llava.completion import main, script

ASK = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_accm
echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """complete(*words): what the last of them may become."""
    file = tmp_path_factory.mktemp("bash") / "accm"
    file.write_text(script("bash"))

    def complete(*words):
        call = ["bash", "-uc", ASK, "bash", str(file), "accm", *words]
        done = subprocess.run(call, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return set(done.stdout.split())

    return complete


@pytest.mark.parametrize(
    "words, found",
    [
        (["tr"], {"trace", "train"}),
        (["--v"], {"--version"}),
        (["answer", "mm"], {"mme", "mmbench", "mmvp"}),
        (["train", "c"], {"caption", "compensation", "clip"}),
        (["checkpoints", ""], {"download", "verify", "convert"}),
        (["answer", "pope", "--model-path", "m", "--ans"], {"--answers-file"}),
        (["trace", "--image", "a.png", "--fig"], {"--figure"}),
        (["trace", "--no-"], {"--no-compensation", "--no-image"}),
        (["train", "caption", "--captions"], {"--captions"}),
        (["train", "clip", "--captions"], set()),
        (["report", "--o"], {"--output"}),
        (["checkpoints", "convert", "--o"], {"--output"}),
        (["checkpoints", "verify", "--o"], {"--oracle"}),
        (["answer", "pope", "--answers-file", ""], set()),  # a file: left to the shell
        (["chat", ""], set()),
    ],
)
def test_bash_completes(bash, words, found):
    assert bash(*words) == found


def test_both_shells_know_the_same():
    tables = [
        text[text.index("_accm_words()") : text.index("_accm() {")]
        for text in map(script, ("bash", "zsh"))
    ]
    assert tables[0] == tables[1]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_reads_it(tmp_path, capsys):
    assert main(["zsh"]) == 0
    (tmp_path / "_accm").write_text(capsys.readouterr().out)
    assert subprocess.run(["zsh", "-n", str(tmp_path / "_accm")]).returncode == 0
