"""The computed costs of training: hand-worked numbers, and the table in the document."""

from dataclasses import replace
from pathlib import Path

import pytest

from llava.train import cost
from llava.train.cost import Card, Shape

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"
SMALL = Shape(width=2, layers=3, mlp=5, vocabulary=7, positions=4)
CARD = Card("slow", operations=1000 / cost.UTILISATION, bandwidth=100)


def test_parameters_of_a_small_transformer():
    assert SMALL.matrices == 3 * (4 * 4 + 2 * 2 * 5)  # 108
    assert SMALL.parameters == 108 + (7 + 4) * 2
    gated = replace(SMALL, gated=True)
    assert gated.parameters == 3 * (4 * 4 + 3 * 2 * 5) + (2 * 7 + 4) * 2


@pytest.mark.parametrize(
    "shape, millions",
    [(cost.LLAMA, 6738), (cost.GPT2, 124), (cost.VISION, 303), (cost.TEXT, 123)],
)
def test_parameters_of_the_real_ones(shape, millions):
    assert shape.parameters / 1e6 == pytest.approx(millions, abs=0.5)


def test_operations_and_bytes():
    assert SMALL.operations(10) == 2 * 108 * 10 + 4 * 100 * 2 * 3
    assert SMALL.operations(10, predicted=3) - SMALL.operations(10) == 2 * 3 * 7 * 2
    assert SMALL.cache_bytes(10) == 2 * 3 * 2 * 10 * 2
    assert cost.activation_bytes(SMALL, 10, more=6) == 10 * 3 * 2 * (34 + 6)
    assert SMALL.operations(1, past=9) == 2 * 108 + 4 * 10 * 2 * 3
    assert cost.TRAINED == 16
    assert cost.feature_bytes() == 576 * ((1024 + 768) * 2 + 4)


def test_a_pass_waits_for_arithmetic_or_for_python():
    assert CARD.pass_seconds(5000, layers=3) == pytest.approx(5)
    assert CARD.pass_seconds(0, layers=4) == pytest.approx(4 * cost.LAYER_SECONDS)


def test_a_step_of_decoding_waits_for_the_weights():
    assert CARD.decode_seconds(SMALL, steps=2, cached=40) == pytest.approx(2 * (2 * 130 + 40) / 100)
    fast = Card("fast", operations=1e15, bandwidth=1e15)
    assert fast.decode_seconds(SMALL, steps=2, cached=0) == pytest.approx(2 * 3 * 5e-4)


def test_the_document_shows_the_table():
    assert cost.table() in DOCUMENT.read_text("utf-8")
