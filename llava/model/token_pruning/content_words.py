"""The words of a question that say what it is about."""

from __future__ import annotations

import re

_FUNCTION_WORDS = frozenset(
    """a about above after again against all am an and any are as at be because been before being
    below between both but by can could did do does doing down during each few for from further had
    has have having he her here hers him his how i if in into is it its itself just me more most my
    no nor not now of off on once only or other our out over own same she should so some such than
    that the their theirs them then there these they this those through to too under until up very
    was we were what when where which while who whom whose why will with would you your""".split()
)


def content_words(question: str) -> str:
    """Returns the words of a question without English function words, separated by blanks.

    A question of nothing else, or without any word, is returned as it is.
    """
    words = re.findall(r"\w+(?:['\u2019-]\w+)*", question)
    content = [word for word in words if word.lower() not in _FUNCTION_WORDS]
    return " ".join(content) if content else question
