"""docs/methods.md: a paragraph for every pruner, and the worked example, which is run here."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from llava.method import Method
from llava.model.multimodal_encoder.visual_tokens import VisualTokens
from llava.model.sample import Sample
from llava.model.token_pruning.registry import PRUNERS, pruning_of

PAGE = (Path(__file__).parents[1] / "docs" / "methods.md").read_text("utf-8")
PUBLISHED = (
    "fastervlm vispruner cdpruner visionzip prumerge prumergeplus divprune trim scope hiprune "
    "prunesid mmtok holov vscan mustdrop fastv pyramiddrop sparsevlm dart"
).split()


def test_every_pruner_has_a_paragraph():
    titles = re.findall(r"^### `(\S+)`\n(?=\S)", PAGE, re.M)
    assert len(titles) == len(set(titles))
    assert set(titles) >= set(PRUNERS)
    assert set(PUBLISHED) <= set(titles)


def test_the_table_names_every_paragraph():
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.M)
    named = [name for row in rows for name in re.findall(r"`(\S+?)`", row)]
    assert sorted(named) == sorted(re.findall(r"^### `(\S+)`$", PAGE, re.M))


@pytest.fixture
def longest():
    """The pruner of the worked example."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    names = {}
    exec(code, names)  # what the page tells readers to write
    return names["LONGEST"]


def test_the_worked_example_keeps_the_longest(longest):
    """Lengths 1, 5, 3, 5: of the equal ones the first comes first."""
    features = torch.tensor([[1.0, 0], [3, 4], [0, 3], [5, 0]])
    for budget, kept in ((1, [1]), (2, [1, 3]), (3, [1, 2, 3])):
        (pruned,) = longest.select([VisualTokens(features)], [None], [budget], [None], [None])
        assert pruned.kept_idx.tolist() == kept
        assert len(pruned.reasons) == budget


def test_the_worked_example_is_a_pruner_of_the_pipeline(longest, prune_only, monkeypatch):
    image = Image.effect_noise((40, 30), 80).convert("RGB")
    monkeypatch.setitem(PRUNERS, "longest", longest)
    assert pruning_of(Method(9, pruner="longest"), 576, nearest=False).pruner is longest
    sample = Sample(image, "What is this?", visual_token_num=9, pruner="longest", max_new_tokens=2)
    (answer,) = prune_only.answer([sample])
    (encoded,) = prune_only.encode_images(prune_only.preprocess([image]))
    norms = encoded.features.norm(dim=1)
    assert answer.kept_idx == norms.topk(9).indices.sort().values.tolist()
    assert set(answer.reasons.values()) == {"long"}
