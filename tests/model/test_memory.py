"""A model keeps nothing from one call to the next; what a run keeps is bounded."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from llava.model.memory import Memory
from llava.model.sample import Sample

ALL = 576


def image_of(seed):
    noise = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def samples():
    """One that is pruned, and one whose visual tokens any question could share."""
    return [
        Sample(image_of(1), "What is it?", visual_token_num=tokens, max_new_tokens=2)
        for tokens in (36, ALL)
    ]


@pytest.fixture(scope="module")
def never_asked(load_tiny):
    model = load_tiny()
    model.compensator.max_length = 8  # the tiny caption model never writes "."
    return model


def other_state(module):
    """Weights of the same shapes, all of them others."""
    return {
        name: value * 1.5 + 0.01 if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }


def weights_copied(model):
    """A copy that shares the tokenizers, which take most of the time; nothing changes them."""
    shared = [model.language_model.tokenizer, model.clip_tokenizer, model.compensator.tokenizer]
    shared.append(model.compensator.long_clip._tokenizer)
    return copy.deepcopy(model, {id(tokenizer): tokenizer for tokenizer in shared})


def _load(part):
    return lambda model: part(model).load_state_dict(other_state(part(model)))


@torch.no_grad()
def _in_place(model):
    for weight in model.language_model.parameters():
        weight.mul_(1.5)


def _through_data(model):
    for weight in model.tower.parameters():
        weight.data.mul_(1.1)


def _new_data(model):
    weight = model.language_model.projector[0].weight
    weight.data = weight.data * 2


def _through_numpy(model):
    model.language_model.projector[0].weight.detach().numpy()[:] *= 2


def _other_part(model):
    model.language_model.projector = copy.deepcopy(model.language_model.projector)
    _new_data(model)


CHANGES = {
    "LLM loaded": _load(lambda model: model.language_model.llm),
    "tower loaded": _load(lambda model: model.tower),
    "caption model loaded": _load(lambda model: model.compensator.caption_model),
    "in place": _in_place,
    "through data": _through_data,
    "new data": _new_data,
    "through numpy": _through_numpy,
    "another part": _other_part,
    "tower in double": lambda model: model.tower.double(),
    "all in bfloat16": lambda model: model.bfloat16(),
    "not padded": lambda model: setattr(model.backbone, "image_aspect_ratio", None),
    "another layer": lambda model: setattr(model.tower, "select_layer", -1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_model_answers_as_one_that_was_never_asked(never_asked, change):
    asked, fresh = weights_copied(never_asked), weights_copied(never_asked)
    before = asked.answer(samples())
    for model in (asked, fresh):
        change(model)
    found, expected = asked.answer(samples()), fresh.answer(samples())
    for one, other in zip(found, expected):
        assert one.kept_idx == other.kept_idx and one.input_ids == other.input_ids
        assert torch.equal(one.first_logits, other.first_logits)
        assert one.out_ids == other.out_ids
    assert any(
        one.kept_idx != other.kept_idx
        or one.input_ids != other.input_ids
        or not torch.equal(one.first_logits, other.first_logits)
        for one, other in zip(before, found)
    )


def test_a_deleted_model_is_freed_at_once(never_asked):
    model = copy.deepcopy(never_asked)
    model.answer(samples())
    parts = [model, *model.modules(), *model.parameters(), model.language_model.tokenizer]
    parts += [model.clip_tokenizer, model.compensator.tokenizer]
    alive = [weakref.ref(part) for part in parts]
    gc.collect()
    gc.disable()
    try:
        del model, parts
        assert not [ref() for ref in alive if ref() is not None]
    finally:
        gc.enable()


class Block:
    def __init__(self, nbytes):
        self.nbytes = nbytes


def test_what_was_not_used_for_the_longest_time_goes_first():
    memory, blocks = Memory(limit=10), {name: Block(4) for name in "abc"}
    memory.keep("a", blocks["a"])
    memory.keep("b", blocks["b"])
    assert memory.find("a") is blocks["a"]
    memory.keep("c", blocks["c"])
    assert memory.find("b") is None and memory.find("a") is blocks["a"]
    memory.keep("large", Block(11))
    assert memory.find("large") is None and memory.find("c") is blocks["c"]


def test_images_and_prompts_share_one_limit(model):
    def kept(limit):
        memory = Memory(limit)
        for seed in range(4):
            image = image_of(seed)
            model.answer(
                [Sample(image, "What?", visual_token_num=ALL, max_new_tokens=1)], None, None, memory
            )
        return memory._values.currsize

    whole = kept(1 << 30)
    assert whole > 4 * ALL * 64 * 4
    assert kept(whole // 2) <= whole // 2


def test_what_was_read_of_an_image_does_not_keep_it(model):
    memory = Memory()
    (image,) = model.encode_images(model.preprocess([image_of(2)]))
    alive = weakref.ref(image)
    sample = Sample(image, "What?", visual_token_num=ALL, max_new_tokens=1)
    model.answer([sample], memory=memory)
    gc.collect()
    del image, sample
    assert alive() is None
    again = Sample(image_of(3), "What?", visual_token_num=ALL, max_new_tokens=2)
    (one,), (other,) = model.answer([again], memory=memory), model.answer([again])
    assert torch.allclose(one.first_logits, other.first_logits, rtol=0, atol=1e-4)
