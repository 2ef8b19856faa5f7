"""Numbers about the server's work, in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate

from llava.serve.openai.answers import Usage

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Counter:
    """A number that only rises, one for each value of a label.

    Args:
        name, about: of the metric.
        label: name of the label; None where there is none.
    """

    kind = "counter"

    def __init__(self, name: str, about: str, label: str | None = None) -> None:
        self.name, self.about = name, about
        self._label = label
        self._values: dict[str, float] = {} if label else {"": 0}

    def add(self, amount: float, value: str = "") -> None:
        """Adds an amount, under a value of the label."""
        self._values[value] = self._values.get(value, 0) + amount

    def lines(self) -> list[str]:
        """Returns its numbers, one a line."""
        values = list(self._values.items())  # another thread may add one meanwhile
        return [f"{self.name}{self._labelled(value)} {number:.17g}" for value, number in values]

    def _labelled(self, value: str) -> str:
        return f'{{{self._label}="{value}"}}' if self._label else ""


class Histogram:
    """Counts seconds by their size."""

    kind = "histogram"

    def __init__(self, name: str, about: str, bounds: Sequence[float] = _SECONDS) -> None:
        self.name, self.about = name, about
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one more duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def lines(self) -> list[str]:
        """Returns the number of durations up to each bound, their sum and their number."""
        bounds = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        counts = list(accumulate(self._counts))
        return [
            *(f'{self.name}_bucket{{le="{le}"}} {n}' for le, n in zip(bounds, counts)),
            f"{self.name}_sum {self._sum:.9g}",
            f"{self.name}_count {counts[-1]}",
        ]


class Metrics:
    """The metrics of the server."""

    def __init__(self) -> None:
        self.requests = Counter("accm_requests_total", "Requests by HTTP status.", "status")
        self.left = Counter("accm_clients_left_total", "Clients that left before their answer.")
        self.stages = Counter("accm_stage_seconds_total", "Seconds of each stage.", "stage")
        self.batches = Counter("accm_batches_total", "Batches that went through the model.")
        self.batched = Counter("accm_batched_requests_total", "Requests in those batches.")
        self.kept = Counter("accm_visual_tokens_kept_total", "Visual tokens that the LLM read.")
        self.dropped = Counter("accm_visual_tokens_dropped_total", "Visual tokens it did not.")
        self.prompt = Counter("accm_prompt_tokens_total", "Positions of prompts in the LLM.")
        self.captions = Counter("accm_caption_tokens_total", "Those of captions among them.")
        self.completion = Counter("accm_completion_tokens_total", "Generated tokens.")
        self.seconds = Histogram("accm_request_seconds", "From a whole request to its answer.")
        self.first = Histogram("accm_first_token_seconds", "From a whole request to a token.")

    def add_batch(self, size: int, seconds: Mapping[str, float]) -> None:
        """Counts a batch of requests that has gone through the model, and its stages' seconds."""
        self.batches.add(1)
        self.batched.add(size)
        for stage, spent in seconds.items():
            self.stages.add(spent, stage)

    def add_usage(self, usage: Usage) -> None:
        """Counts the tokens of an answer."""
        self.kept.add(usage.kept)
        self.dropped.add(usage.dropped)
        self.prompt.add(usage.prompt)
        self.captions.add(usage.caption)
        self.completion.add(usage.completion)

    def text(self, in_flight: int, waiting: int) -> str:
        """Returns all metrics.

        Args:
            in_flight: requests that are being answered now.
            waiting: those among them that wait for a batch.
        """
        lines = []
        for each in vars(self).values():
            lines += [f"# HELP {each.name} {each.about}", f"# TYPE {each.name} {each.kind}"]
            lines += each.lines()
        for name, number in (("in_flight", in_flight), ("waiting", waiting)):
            lines += [f"# TYPE accm_requests_{name} gauge", f"accm_requests_{name} {number}"]
        return "\n".join(lines) + "\n"
