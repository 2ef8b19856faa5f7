"""Files are rooms and functions fit on a screen; the limits are those of CONTRIBUTING.md."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = sorted(ROOT.glob("llava/**/*.py"))
LINES_OF_A_FILE = 300
LINES_OF_THE_MAIN_PATH = 400
LINES_OF_A_FUNCTION = 50  # without its docstring


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function from def to end, without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - (docstring.end_lineno - docstring.lineno + 1)


def long_functions(source: str) -> list[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, functions)]
    return [f.name for f in found if lines_of(f) > LINES_OF_A_FUNCTION]


def test_no_file_is_longer_than_a_room():
    limits = {ROOT / "llava" / "model" / "llava_arch.py": LINES_OF_THE_MAIN_PATH}
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in MODULES}
    long = {
        str(path.relative_to(ROOT)): length
        for path, length in lengths.items()
        if length > limits.get(path, LINES_OF_A_FILE)
    }
    assert not long


def test_every_function_fits_on_a_screen():
    found = {path: long_functions(path.read_text("utf-8")) for path in MODULES}
    assert not {str(path.relative_to(ROOT)): names for path, names in found.items() if names}


def test_a_docstring_does_not_count():
    body = "    x = 1\n" * 49
    assert long_functions(f"def fits():\n{body}") == []
    assert long_functions(f'def fits():\n    """Says\n\n    more.\n    """\n{body}') == []
    assert long_functions(
        f"class C:\n    def long():\n{body.replace('    ', ' ' * 8)}        x = 1\n"
    ) == ["long"]
