"""The model for lmms-eval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.utils import Collator
from loguru import logger
from PIL import Image
from tqdm import tqdm

from llava.errors import UserError
from llava.lmms.arguments import read_arguments
from llava.lmms.requests import make_sample, not_greedy, read_ending, read_image
from llava.model.builder import load_from_arguments
from llava.model.checks import check_needs
from llava.model.memory import Memory
from llava.model.sample import Answer, Sample
from llava.utils.distributed import Processes

# Questions are sorted by length only among this number of neighbours: neighbours often share an
# image, and a run caches the images of some hundred questions.
NEIGHBOURS = 64
TOLD = 10  # failed requests of a task that are reported one by one

# Prompt, generation_kwargs, and the image's place: task, split and index.
RequestArguments = tuple[str, dict, Callable[[object], object], int, str, str]


class AccmModel(lmms):
    """A model with ACCM, as ``lmms-eval --model accm`` loads it.

    A request that cannot be answered (too long a prompt, a broken image, several images) gets an
    empty text and a warning: it costs its own score, and not the run.

    Args:
        given: the model arguments; see LmmsArguments.

    Raises:
        UserError: they are wrong, or the model cannot be loaded.
    """

    is_simple = True

    def __init__(self, **given: object) -> None:
        super().__init__()
        self._args = read_arguments(given)
        processes = Processes(self._args.device)
        self._rank, self._world_size = processes.rank, processes.count
        if self._world_size > 1 and self._args.device.startswith("cuda:"):
            raise UserError("each process takes a GPU of its own: leave out the device")
        self._model = load_from_arguments(replace(self._args, device=processes.device))
        self._device = self._model.tower.device
        # What no request can be asked with fails now.
        make_sample(self._model, self._args, "?", Image.new("RGB", (1, 1)), 1)
        check_needs(self._model, self._args.method)
        self._not_heeded: set[str] = set()
        self._unanswered: Counter[str] = Counter()

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self._device

    @property
    def batch_size(self) -> int:
        """The number of requests that are answered together."""
        return self._args.batch_size

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answers requests; in float32 each gets the answer that it would get alone.

        Raises:
            UserError: a task's generation_kwargs cannot be used.
        """
        wanted = [request.args for request in requests]
        for _, generation, *_ in wanted:  # mistakes show now, not after hours
            read_ending(generation, self._args.max_new_tokens)
            self._tell_not_heeded(generation)
        order = Collator(wanted, _order, grouping=True)
        results: list[GenerationResult] = []
        memory = Memory()
        with tqdm(total=len(wanted), desc="Answering", disable=self.rank != 0) as bar:
            for batch in order.get_batched(n=self.batch_size):
                results += self._answer(batch, memory)
                bar.update(len(batch))
        for task, count in self._unanswered.items():
            logger.warning(f"{task}: {count} requests could not be answered and got an empty text")
        self._unanswered.clear()
        return order.get_original(results)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Raises NotImplementedError, since this model only answers single questions."""
        raise NotImplementedError(
            "accm writes answers; it does not tell how likely given ones are. Take a task whose "
            "output_type is generate_until: most benchmarks of images have one"
        )

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Raises NotImplementedError, since this model only answers single questions."""
        raise NotImplementedError(
            "accm answers one question about one image; tasks of several rounds show other images "
            "in each. Take a task whose output_type is generate_until"
        )

    def _answer(self, batch: list[RequestArguments], memory: Memory) -> list[GenerationResult]:
        samples: dict[int, Sample] = {}
        for place, request in enumerate(batch):
            try:
                samples[place] = self._sample(*request)
            except UserError as error:
                self._give_up(*request[-3:], error)
        answers = dict(zip(samples, self._model.answer(list(samples.values()), memory=memory)))
        return [self._result(answers.get(place), request[1]) for place, request in enumerate(batch)]

    def _sample(
        self,
        context: str,
        generation: dict,
        doc_to_visual: Callable[[object], object],
        doc_id: int,
        task: str,
        split: str,
    ) -> Sample:
        image = read_image(lambda: doc_to_visual(self.task_dict[task][split][doc_id]))
        limit = read_ending(generation, self._args.max_new_tokens).max_new_tokens
        return make_sample(self._model, self._args, context, image, limit, f"{task}/{doc_id}")

    def _result(self, answer: Answer | None, generation: dict) -> GenerationResult:
        if answer is None:
            return GenerationResult("")
        text = read_ending(generation, self._args.max_new_tokens).cut(answer.text)
        return GenerationResult(text, TokenCounts(answer.input_length, len(answer.out_ids)))

    def _give_up(self, doc_id: int, task: str, split: str, error: UserError) -> None:
        self._unanswered[task] += 1
        if self._unanswered[task] <= TOLD:
            logger.warning(f"{task}, {split} {doc_id} gets an empty text: {error}")

    def _tell_not_heeded(self, generation: dict) -> None:
        """Warns once of each setting that is ignored, since answers are greedy."""
        for setting in set(not_greedy(generation)) - self._not_heeded:
            self._not_heeded.add(setting)
            logger.warning(f"accm takes the likeliest token each time: {setting} is not heeded")


def _order(request: RequestArguments) -> tuple[str, str, int, int]:
    context, _, _, doc_id, task, split = request
    return task, split, doc_id // NEIGHBOURS, -len(context)
