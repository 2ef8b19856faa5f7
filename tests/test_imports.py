"""Imports go down the rooms of docs/architecture.md, and no modules import each other in a circle.

Read from the source, so that imports in functions and those for type checkers count too.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up; a module belongs to the room with the longest name that fits.
ROOMS = [
    "llava",
    "llava.utils",
    "llava.download",
    "llava.eval.benchmarks",
    "llava.benchmarks",
    "llava.model",
    "llava.checkpoints",
    "llava.eval.scoring",
    "llava.eval",
    "llava.eval.bench",
    "llava.train",
    "llava.train.stages",
    "llava.mini",
    "llava.mini.benchmarks",
    "llava.mini.measuring",
    "llava.mini.stages",
    "llava.serve",
    "llava.serve.web",
    "llava.serve.openai",
    "llava.lmms",
    "commands",  # what is run with python -m, of every room
]
# Importer -> imported: imports that go up, each with its reason.
EXEMPT = {
    # Users write "from llava import Accm"; it is fetched when it is asked for.
    ("llava", "llava.serve.accm"),
}


class Module:
    """A module and what it imports, as (name, whether only for type checkers)."""

    def __init__(self, path: Path, source: str) -> None:
        parts = path.with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.package = ".".join(parts[:-1])
        tree = ast.parse(source)
        self.is_command = parts[-1] == "__main__" or any(
            isinstance(node, ast.If) and "'__main__'" in ast.dump(node.test) for node in tree.body
        )
        self.imports = set(imports_of(tree))

    @property
    def room(self) -> str:
        if self.is_command:
            return "commands"
        within = f"{self.package}."
        return max((room for room in ROOMS if within.startswith(f"{room}.")), key=len)


def imports_of(node: ast.AST, for_types: bool = False) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, for_types) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, "imports name the whole module"
            yield from ((f"{child.module}.{alias.name}", for_types) for alias in child.names)
        is_guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        yield from imports_of(child, for_types or is_guard)


def edges(modules: dict[str, Module], with_types: bool) -> Iterator[tuple[Module, Module]]:
    """Each pair of importer and imported; a name in a module counts as the module."""
    for module in modules.values():
        for name, for_types in module.imports:
            found = modules.get(name) or modules.get(name.rpartition(".")[0])
            if found is not None and found is not module and (with_types or not for_types):
                yield module, found


def going_up(modules: dict[str, Module]) -> set[tuple[str, str]]:
    return {
        (above.name, below.name)
        for above, below in edges(modules, with_types=True)
        if ROOMS.index(above.room) < ROOMS.index(below.room)
    }


def circle(modules: dict[str, Module]) -> list[str]:
    """The modules of a circle; those that only a type checker imports make none."""
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for importer, imported in edges(modules, with_types=False):
        graph[importer.name].add(imported.name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def house(files: dict[str, str]) -> dict[str, Module]:
    found = [Module(Path(path), source) for path, source in files.items()]
    return {module.name: module for module in found}


@pytest.fixture(scope="module")
def llava():
    paths = ROOT.glob("llava/**/*.py")
    return house({str(path.relative_to(ROOT)): path.read_text("utf-8") for path in paths})


def test_no_import_goes_up(llava):
    assert going_up(llava) == EXEMPT


def test_no_modules_import_each_other_in_a_circle(llava):
    assert circle(llava) == []


def test_the_page_has_the_same_rooms_in_the_same_order():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    order = re.search(r"```text\n    (llava/\*\.py\n.*?)```", page, re.S)[1].split()
    assert order == [
        "llava/*.py",
        *(f"{room.replace('.', '/')}/" for room in ROOMS[1:-1]),
        ROOMS[-1],
    ]


@pytest.mark.parametrize(
    ("source", "above"),
    [
        ("import llava.eval.run", True),
        ("from llava.eval import run", True),
        ("from llava.eval.run import answer", True),
        ("def late():\n    from llava.eval.run import answer", True),
        ("if TYPE_CHECKING:\n    from llava.eval.run import answer", True),
        ("from llava.errors import UserError", False),
    ],
)
def test_what_counts_as_going_up(source, above):
    files = {"llava/eval/run.py": "", "llava/errors.py": "", "llava/model/sample.py": source}
    assert bool(going_up(house(files))) is above


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from llava.model import a", True),
        ("def late():\n    import llava.model.a", True),
        ("if TYPE_CHECKING:\n    from llava.model.a import A", False),
    ],
)
def test_what_counts_as_a_circle(source, found):
    files = {"llava/model/a.py": "from llava.model.b import B", "llava/model/b.py": source}
    assert bool(circle(house(files))) is found
