"""Rendering of templates: HTML, its style, SVG, and Markdown.

jinja2 escapes all values, but in Markdown, where ``cell`` does. Numbers with a fraction are printed
to one digit.
"""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from llava.markdown import escape


def render(name: str, **values: object) -> Markup:
    """Returns a filled-in template, which another one does not escape again.

    Args:
        name: name of the template.
        values: values of its variables.
    """
    return Markup(_ENVIRONMENT.get_template(name).render(values).lstrip())


def _to_one_digit(value: object) -> object:
    return f"{value:.1f}" if isinstance(value, float) else value


_ENVIRONMENT = Environment(
    loader=PackageLoader(__package__),
    autoescape=lambda name: not str(name).endswith(".md"),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=StrictUndefined,
    finalize=_to_one_digit,
)
_ENVIRONMENT.filters["cell"] = escape
