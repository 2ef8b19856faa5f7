"""Functions that mkdocs calls to make a site of pages that can also be read as files.

Pages link to pictures and sources outside their folder, as in the repository. The pictures and the
mini models' cards become part of the site; a link to a source becomes its name. A comment
``<!-- api: NAME -->`` becomes the documentation of that name, ``<!-- fields: NAME -->`` that of a
class that users do not call, and ``<!-- flags: NAME -->`` a table of the flags of a class of
arguments.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from llava import arguments

_ROOT = Path(__file__).resolve().parents[1]
# Paths in the repository -> paths in the site.
_MOVED = {
    f"checkpoints/{model}/README.md": f"{model}.md" for model in ("accm-mini", "accm-mini-next")
}
_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(
    r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)]*)?\)"
)
_API = re.compile(r"^<!-- api: (\S+) -->$", re.MULTILINE)
_FIELDS = re.compile(r"^<!-- fields: (\S+) -->$", re.MULTILINE)
_FLAGS = re.compile(r"^<!-- flags: (\S+) -->$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pictures and the cards."""
    for picture in sorted((_ROOT / "images").glob("*.png")):
        name = f"images/{picture.name}"
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    for source, name in _MOVED.items():
        files.append(File.generated(config, name, abs_src_path=str(_ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Returns a page with its links and comments rewritten, except in blocks of code."""
    name = page.file.src_uri
    source = next((s for s, moved in _MOVED.items() if moved == name), f"docs/{name}")
    pieces, end = [], 0
    for fence in _FENCE.finditer(markdown):
        pieces += [_rewrite(markdown[end : fence.start()], source, name), fence.group()]
        end = fence.end()
    return "".join([*pieces, _rewrite(markdown[end:], source, name)])


def _rewrite(text: str, source: str, name: str) -> str:
    """Returns a piece of a page with its links and comments rewritten.

    Args:
        text: Markdown without blocks of code.
        source: path of the page in the repository.
        name: its path in the site.
    """
    text = _API.sub(r"::: \1", text)
    text = _FIELDS.sub(
        r"::: \1\n    options:\n      show_signature: false\n      separate_signature: false", text
    )
    text = _FLAGS.sub(lambda comment: _flag_table(comment[1]), text)
    return _LINK.sub(lambda link: _moved_link(link, source, name), text)


def _moved_link(link: re.Match, source: str, name: str) -> str:
    """Returns a link in the form that the site needs."""
    if ":" in link["target"]:  # an address
        return link.group()
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["target"]))
    inside = _place_in_site(target)
    if inside is None:
        return link["text"]
    way = posixpath.relpath(inside, posixpath.dirname(name) or ".")
    if link["picture"]:  # it can be opened alone, which a small screen needs
        return f"[![{link['text']}]({way})]({way})"
    return f"[{link['text']}]({way}{link['anchor'] or ''})"


def _place_in_site(target: str) -> str | None:
    """Returns the site's path of a file of the repository; None if it is not in the site."""
    if target in _MOVED:
        return _MOVED[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return target if target.startswith("images/") else None


def _flag_table(name: str) -> str:
    """Returns a table of the fields of a class of arguments, read from its source."""
    module, _, class_name = name.rpartition(".")
    source = (_ROOT / Path(*module.split("."))).with_suffix(".py").read_text("utf-8")
    (found,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == class_name
    )
    rows = [f"| `{flag}` | {default} | {help} |" for flag, default, help in _fields(found)]
    return "\n".join(["| argument | default | what |", "| --- | --- | --- |", *rows])


def _value(node: ast.expr) -> object:
    """Returns an argument from its source; a name is a constant of llava.arguments."""
    return getattr(arguments, node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """Yields name, default and documentation of the fields that ``flag`` makes."""
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.value, ast.Call):
            help, *default = [_value(value) for value in line.value.args]
            shown = f"`{default[0]}`" if default else ""
            yield line.target.id, shown, help
