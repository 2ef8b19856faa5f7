import numpy as np
import pytest
from PIL import Image

from llava.errors import UserError
from llava.eval.figure import IMAGE_SIDE, MARGIN, REASON_COLOURS, draw_trace, kept_reasons
from llava.model.sample import Sample


@pytest.fixture(scope="module")
def sample():
    return Sample(
        Image.new("RGB", (60, 60), (200, 180, 160)), "What is it? " * 40, max_new_tokens=8
    )


def patch_of(path, patch, side=24):
    """The pixels of a patch in the drawn figure."""
    step = IMAGE_SIDE // side
    left, top = MARGIN + patch % side * step, MARGIN + patch // side * step
    with Image.open(path) as drawn:
        return np.asarray(drawn.crop((left, top, left + step, top + step)))


def test_kept_patches_are_bright_and_framed_by_reason(model, sample, tmp_path):
    (answer,) = model.answer([sample])
    draw_trace(model, sample.image, sample.question, answer, tmp_path / "figure.png")
    reasons = kept_reasons(answer.selection)
    assert sorted(reasons) == sorted(answer.kept_idx)
    for patch, reason in reasons.items():
        pixels = patch_of(tmp_path / "figure.png", patch)
        assert tuple(pixels[0, 0]) == REASON_COLOURS[reason]
        assert tuple(pixels[10, 10]) == (200, 180, 160)
    dropped = patch_of(tmp_path / "figure.png", answer.selection.dropped_idx[0].item())
    assert dropped.max() < 80


def test_every_reason_has_its_patches(model, sample):
    (answer,) = model.answer([sample])
    selection, reasons = answer.selection, kept_reasons(answer.selection)
    for patch in selection.uniform_idx.tolist():
        assert reasons[patch] == "uniform"
    for patch in selection.random_idx.tolist():
        assert reasons[patch] == "random"
    for patch in selection.union_idx.tolist():
        assert ("question" in reasons[patch]) == (patch in selection.text_idx.tolist())
        assert ("attention" in reasons[patch]) == (patch in selection.cls_idx.tolist())


def test_without_pruning_the_whole_image_is_bright(prune_only, tmp_path):
    sample = Sample(
        Image.new("RGB", (60, 60), (200, 180, 160)), "What?", visual_token_num=576, max_new_tokens=2
    )
    (answer,) = prune_only.answer([sample])
    draw_trace(prune_only, sample.image, sample.question, answer, tmp_path / "figure.png")
    assert tuple(patch_of(tmp_path / "figure.png", 300)[0, 0]) == (200, 180, 160)


def test_a_figure_that_cannot_be_written(prune_only, sample, tmp_path):
    (answer,) = prune_only.answer([sample])
    with pytest.raises(UserError, match="does not exist: create it"):
        path = tmp_path / "gone" / "figure.png"
        draw_trace(prune_only, sample.image, sample.question, answer, path)
