"""Predicts the time of each stage: operations and bytes as formulas of K, lengths and batch.

The formulas of a transformer are llava.model.cost's, as in training. torch's own counter, by which
the tests check them, must run a model and sees nothing in a compiled one.

A stage is a number of passes; a pass takes the time of its arithmetic at the speed of a large
matrix product, or the time of reading its weights, keys and values, whichever is longer. Both
speeds are measured on the present machine (``Machine``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from llava.constants import IMAGE_TOKEN_INDEX
from llava.eval.bench.arguments import ACCM, FULL
from llava.eval.bench.memory import bytes_of_all
from llava.eval.bench.methods import STOCK, Case, Lengths
from llava.eval.bench.shapes import (
    compensator_of,
    llm_shape,
    newlines_of,
    projector_operations,
    vision_operations,
    vision_shape,
)
from llava.mm_utils import round_up
from llava.model.compensation.caption_writer import NUM_CANDIDATES
from llava.model.compensation.selector import selector_text
from llava.model.cost import Shape
from llava.model.language_model.llava_llama import TILE
from llava.model.llava_arch import LlavaAccm
from llava.model.products.layers import FormedLinear
from llava.model.sample import Answer


@dataclass(frozen=True)
class Pass:
    """One pass through a network.

    Attributes:
        operations: floating-point operations; a multiply-add counts as two.
        bytes: bytes of the weights, keys and values that are read.
    """

    operations: float
    bytes: float


@dataclass(frozen=True)
class Counts:
    """The token counts of one sample.

    Attributes:
        system: read by the LLM before the image.
        prompt: all that the LLM reads, except the image and the caption.
        newlines: newline tokens that the LLM reads of a pruned image.
        hint: the caption for the LLM, with its heading.
        question: read by the text tower.
        gpt: read by the caption model of the question.
        candidates: read by LongCLIP of all candidates, their common prefix once.
    """

    system: int
    prompt: int
    newlines: int
    hint: int
    question: int
    gpt: int
    candidates: int


def count_tokens(model: LlavaAccm, question: str, plain: Answer, hinted: Answer) -> Counts:
    """Counts the tokens of a sample.

    Args:
        model: the model that answered it.
        question: its tower question.
        plain: an answer without a caption.
        hinted: an answer with one, if the budget prunes.
    """
    clip_ids = model.clip_tokenizer.encode(question, model.tower.max_text_length)
    written = hinted.written
    texts = [selector_text(question, text) for text in written.captions if text] if written else []
    return Counts(
        system=plain.input_ids.index(IMAGE_TOKEN_INDEX),
        prompt=len(plain.input_ids) - 1,
        newlines=plain.num_separators,
        hint=len(hinted.input_ids) - len(plain.input_ids) if written else 0,
        question=len(clip_ids),
        gpt=len(written.question_ids) if written else 0,
        candidates=len(compensator_of(model).long_clip.pack([texts]).ids) if written else 0,
    )


class CostModel:
    """The passes of each stage.

    Args:
        model: defines the shapes.
        counts: token counts of a sample.
        lengths: lengths of captions and answers.
    """

    def __init__(self, model: LlavaAccm, counts: Counts, lengths: Lengths) -> None:
        self._model = model
        self._counts = counts
        self._lengths = lengths
        text = model.tower.clip.config.text_config
        compensator = compensator_of(model)
        mapper, selector = compensator.caption_model, compensator.selector
        gpt, tower = mapper.gpt.config, compensator.long_clip.tower
        layers = selector.transformer_encoder.layers
        self.vision = vision_shape(model)
        self.text = Shape(text.hidden_size, text.num_hidden_layers, text.intermediate_size)
        self.llm = llm_shape(model)
        self.gpt = Shape(
            gpt.n_embd, gpt.n_layer, gpt.n_inner or 4 * gpt.n_embd, vocabulary=gpt.vocab_size
        )
        self.mapper = Shape(
            gpt.n_embd,
            len(mapper.clip_project.transformer.layers),
            mapper.clip_project.transformer.layers[0].mlp.fc1.out_features,
        )
        self.long_clip = Shape(
            tower.width,
            len(tower.transformer.resblocks),
            tower.transformer.resblocks[0].mlp[0].out_features,
        )
        self.selector = Shape(
            layers[0].linear1.in_features, len(layers), layers[0].linear1.out_features
        )

    def stages(self, case: Case) -> dict[str, list[Pass]]:
        """Returns the passes of a case, for its whole batch."""
        stages = {"encode": list(self._encode(case))}
        if case.method not in (*STOCK, FULL):
            stages["prune"] = [self._prune(case)]
        if case.method == ACCM:
            stages["caption"] = list(self._caption(case))
            stages["select"] = list(self._select(case))
        if case.method not in STOCK:
            stages["splice"] = [self._project(case)]
        return stages | {
            "prefill": list(self._prefill(case)),
            "decode": list(self._decode(case)),
        }

    def cache_bytes(self, case: Case) -> int:
        """Returns the size of the LLM's keys and values at the end, for the whole batch."""
        size = self._model.language_model.llm.dtype.itemsize
        positions = self._positions(case) + self._lengths.answer - 1
        return case.batch_size * self.llm.cache_bytes(positions, size)

    def _positions(self, case: Case) -> int:
        """Returns the number of tokens that the LLM reads for a sample."""
        hint = self._counts.hint if case.method == ACCM else 0
        pruned = case.visual_token_num < self._model.count_tokens()
        between = self._counts.newlines if pruned else newlines_of(self._model)
        return self._counts.prompt + case.visual_token_num + between + hint

    def _images(self, case: Case) -> int:
        shared = (
            1 if case.method in STOCK else min(self._lengths.questions_per_image, case.batch_size)
        )
        return -(-case.batch_size // shared)

    def _encode(self, case: Case) -> Iterator[Pass]:
        tower, n = self._model.tower, self._model.count_tokens()
        clip, width = tower.clip, self.vision.width
        one = vision_operations(self._model)
        if case.method in STOCK:  # the tower with the projector
            one += projector_operations(self._model, n)
        if case.method in (*STOCK, FULL):  # nothing is pruned: nothing else is needed
            yield Pass(self._images(case) * one, bytes_read(clip.vision_model))
            return
        one += 2 * n * width * clip.config.projection_dim
        views = len(self._model.backbone.views())
        one += 2 * (n + 2 * views) * width**2 + 2 * (n + views) * width  # the rows of the CLS
        yield Pass(self._images(case) * one, bytes_read(clip.vision_model))
        words = self.text.operations(self._counts.question)
        words += 2 * self.text.width * clip.config.projection_dim
        yield Pass(case.batch_size * words, bytes_read(clip.text_model))

    def _prune(self, case: Case) -> Pass:
        n, width = self._model.count_tokens(), self._model.tower.clip.config.projection_dim
        return Pass(case.batch_size * 2 * n * width, case.batch_size * n * width * 4)

    def _caption(self, case: Case) -> Iterator[Pass]:
        model, rows = compensator_of(self._model).caption_model, NUM_CANDIDATES * case.batch_size
        width = self._model.tower.clip.config.projection_dim
        n = self._model.count_tokens()  # evenly dropped from the views, the first is described
        dropped = round(self._model.tower.num_patches * (n - case.visual_token_num) / n)
        prefix = len(model.clip_project.prefix_const)
        all_but_last = Shape(self.mapper.width, self.mapper.layers - 1, self.mapper.mlp)
        read = dropped + prefix
        one = 2 * dropped * width * self.mapper.width + all_but_last.operations(read)
        d = self.mapper.width  # the last layer: keys and values of all, the rest of the prefix
        one += 4 * read * d**2 + prefix * (4 * d**2 + 4 * read * d + 4 * d * self.mapper.mlp)
        yield Pass(case.batch_size * one, bytes_read(model.clip_project))
        read = self._counts.gpt + prefix
        yield Pass(case.batch_size * self.gpt.operations(read, 1), bytes_read(model.gpt))
        size = model.gpt.dtype.itemsize
        for step in range(1, self._lengths.caption):
            past = read + step - 1
            yield Pass(
                rows * self.gpt.operations(1, 1, past),
                bytes_read(model.gpt) + rows * self.gpt.cache_bytes(past, size),
            )

    def _select(self, case: Case) -> Iterator[Pass]:
        compensator = compensator_of(self._model)
        features = 2 * NUM_CANDIDATES * self.long_clip.width * compensator.long_clip.embed_dim
        most = compensator.long_clip.samples_per_row
        for start in range(0, case.batch_size, most):
            samples = min(most, case.batch_size - start)
            row = self.long_clip.operations(samples * self._counts.candidates)
            yield Pass(row + samples * features, bytes_read(compensator.long_clip))
        one = self.selector.operations(NUM_CANDIDATES) + 2 * NUM_CANDIDATES * self.selector.width
        yield Pass(case.batch_size * one, bytes_read(compensator.selector))

    def _project(self, case: Case) -> Pass:
        samples = self._images(case) if case.method == FULL else case.batch_size
        operations = samples * projector_operations(self._model, case.visual_token_num)
        return Pass(operations, bytes_read(self._model.language_model.projector))

    def _prefill(self, case: Case) -> Iterator[Pass]:
        llm, counts = self._model.language_model.llm, self._counts
        size = llm.dtype.itemsize
        weights = bytes_read(llm)
        positions, past = self._positions(case), 0 if case.method in STOCK else counts.system
        shared = case.method == FULL and self._images(case) < case.batch_size
        ahead = case.method == ACCM and self._model.reads_ahead and counts.candidates > 0
        if shared or ahead:  # the visual tokens have a pass of their own
            rows = self._images(case) if shared else case.batch_size
            image = self.llm.operations(round_up(case.visual_token_num, TILE), 1, past)
            yield Pass(rows * image, weights)
            past += case.visual_token_num
        new = positions - past
        one = self.llm.operations(new if case.method in STOCK else round_up(new, TILE), 1, past)
        cached = case.batch_size * self.llm.cache_bytes(past, size)
        yield Pass(case.batch_size * one, weights + cached)

    def _decode(self, case: Case) -> Iterator[Pass]:
        llm = self._model.language_model.llm
        weights = bytes_read(llm)
        for step in range(1, self._lengths.answer):
            past = self._positions(case) + step - 1
            yield Pass(
                case.batch_size * self.llm.operations(1, 1, past),
                weights + case.batch_size * self.llm.cache_bytes(past, llm.dtype.itemsize),
            )


def bytes_read(module: nn.Module) -> int:
    """Returns the bytes that a pass reads of a module.

    Embedding tables count only if a product reads them, rather than a packed copy. Layers that
    share their weights read them one after the other.
    """
    tables = [m.weight for m in module.modules() if isinstance(m, nn.Embedding)]
    multiplied = {
        id(m.weight)
        for m in module.modules()
        if isinstance(m, nn.Linear | FormedLinear) and hasattr(m, "weight")
    }
    idle = {id(t): t.nbytes for t in tables if id(t) not in multiplied}
    return bytes_of_all(module) - sum(idle.values())


@dataclass(frozen=True)
class Machine:
    """The speed of a machine.

    Attributes:
        operations: operations per second of a large matrix product.
        bandwidth: bytes per second of weights that are read once.
    """

    operations: float
    bandwidth: float

    def seconds(self, passes: list[Pass]) -> float:
        """Returns the predicted time of passes that run one after the other."""
        return sum(max(p.operations / self.operations, p.bytes / self.bandwidth) for p in passes)
