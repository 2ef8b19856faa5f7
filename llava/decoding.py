"""How the tokens of an answer are chosen, in transformers' terms."""

from __future__ import annotations

from dataclasses import dataclass

from llava.errors import UserError, quoted

# Below the lower limit, only the likeliest token is left, and float32 cannot hold the quotients;
# above the upper one, all tokens are equally likely.
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.001, 1000
MOST_BEAMS = 64  # each has the keys and values of the whole prompt


@dataclass(frozen=True)
class Decoding:
    """How the tokens of one answer are chosen.

    Attributes:
        temperature: 0 takes the likeliest token each time; above, tokens are drawn by the softmax
            of their logits divided by it.
        top_p: draws only from the likeliest tokens that together have this probability, the one
            that passes it included; None draws from all. (transformers' generate would also leave
            out all but the likeliest 50, its default top_k; here nothing else is left out.)
        num_beams: above 1, beam search with that many beams and a length penalty of 1.
        seed: of the random draws.
    """

    temperature: float = 0.0
    top_p: float | None = None
    num_beams: int = 1
    seed: int = 0

    @property
    def is_drawn(self) -> bool:
        """Whether tokens are drawn at random."""
        return self.temperature > 0

    def check(self, compiled: bool = False) -> None:
        """Refuses settings that are invalid, or without effect.

        Args:
            compiled: whether the LLM is compiled for fixed shapes.

        Raises:
            UserError: names the setting, and what may be given.
        """
        heat, top_p, beams = self.temperature, self.top_p, self.num_beams
        is_known = _is_number(heat)
        if not is_known or not (heat == 0 or LEAST_TEMPERATURE <= heat <= MOST_TEMPERATURE):
            raise UserError(
                f"temperature is {quoted(heat)}; it must be 0 (the likeliest token each time), or a"
                f" number from {LEAST_TEMPERATURE} to {MOST_TEMPERATURE}"
            )
        if top_p is not None and not (_is_number(top_p) and 0 < top_p <= 1):
            raise UserError(f"top_p is {quoted(top_p)}; it must be above 0, and 1 at most")
        if not isinstance(beams, int) or isinstance(beams, bool) or not 1 <= beams <= MOST_BEAMS:
            raise UserError(
                f"num_beams is {quoted(beams)}; it must be a whole number from 1 to {MOST_BEAMS}"
            )
        if top_p is not None and not self.is_drawn:
            raise UserError(
                "top_p has no effect at temperature 0, where nothing is drawn: leave it out, or"
                " give a temperature above 0"
            )
        if beams > 1 and self.is_drawn:
            raise UserError(
                f"num_beams {beams} searches for the likeliest answer, and temperature {heat} draws"
                " one: leave out one of the two"
            )
        if beams > 1 and compiled:
            raise UserError(
                f"num_beams is {beams}, and an LLM that is compiled (--compile) searches with no "
                "beams: leave out one of the two"
            )


GREEDY = Decoding()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
