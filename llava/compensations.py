"""The names of compensations, without torch: what --compensation may say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llava.errors import UserError, did_you_mean, quoted

CAPTIONS, GRAPHS, NOTHING = "caption+selector", "scene-graph", "none"
# The compensations for dropped tokens, and the flags of the files that each reads. Their loaders
# are in llava.model.compensation.registry.
COMPENSATIONS: dict[str, tuple[str, ...]] = {
    CAPTIONS: ("gpt2", "caption_model", "longclip", "selector"),
    "caption": ("gpt2", "caption_model"),
    GRAPHS: ("scene_graph",),
    "oracle": ("oracle",),
    "merge": (),
    "rectify": (),
    NOTHING: (),
}
# The flags of some compensations -> the file that each needs to have an effect, and its name.
FLAGS = {
    "silence": ("selector", "captions among which a selector chooses"),
    "oracle": ("oracle", "--compensation oracle"),
    "scene_graph": ("scene_graph", "--compensation scene-graph"),
    "compensation_options": ("scene_graph", "--compensation scene-graph"),
}
# The values of flags where nothing is given back.
UNCOMPENSATED: dict[str, Any] = dict(compensation=NOTHING, compensation_options=(), oracle=None)
# --compensation once was yes or no.
_YES_OR_NO = {"true": CAPTIONS, "yes": CAPTIONS, "false": NOTHING, "no": NOTHING}


def name_of(compensation: object) -> str:
    """Returns the name that a value means: True and False, and their words, are names too."""
    return _YES_OR_NO.get(str(compensation).lower(), str(compensation))


def terms_of(compensation: object) -> tuple[str, ...]:
    """Returns the names of COMPENSATIONS whose sum a value is, in its order; none for nothing.

    Raises:
        UserError: a name is unknown, or occurs twice, or is NOTHING beside others.
    """
    name = name_of(compensation)
    terms = tuple(_terms(name))
    for term in terms:
        if term not in COMPENSATIONS:
            near = did_you_mean(term, COMPENSATIONS)
            raise UserError(
                f"there is no compensation {quoted(term)}{near}: use {', '.join(COMPENSATIONS)}, "
                f"or a sum such as {CAPTIONS}+merge"
            )
    if len(set(terms)) < len(terms):
        twice = next(term for term in terms if terms.count(term) > 1)
        raise UserError(f"the compensation {quoted(name)} names {twice} twice: name it once")
    if NOTHING in terms and len(terms) > 1:
        raise UserError(
            f"the compensation {quoted(name)} is a sum with {NOTHING}, which gives nothing back: "
            "leave it out of the sum"
        )
    return () if terms == (NOTHING,) else terms


def parts_of(compensation: object) -> tuple[str, ...]:
    """Returns the flags of the files that a compensation reads, each once.

    Raises:
        UserError: see terms_of.
    """
    parts = (part for term in terms_of(compensation) for part in COMPENSATIONS[term])
    return tuple(dict.fromkeys(parts))


def _terms(name: str) -> Iterator[str]:
    """Yields the terms of a sum; CAPTIONS is one, though there is a plus in it."""
    placeholder = CAPTIONS.replace("+", "\n")
    for term in f"+{name}+".replace(f"+{CAPTIONS}+", f"+{placeholder}+")[1:-1].split("+"):
        yield term.replace("\n", "+")
