"""What the mini model's own stages teach: labels of patches, of texts, sights of a scene."""

import shutil
from collections import defaultdict

import numpy as np
import pytest
import torch

from llava.arguments import ModelArguments
from llava.errors import UserError
from llava.mini.architecture import CLIP_NAME
from llava.mini.language import CAPTION_PROMPT, describe, statements
from llava.mini.scene import COLORS, PLACES, SHAPES, SIZES, Thing
from llava.mini.stages.arguments import LlavaArguments
from llava.mini.stages.clip import NOTHING, UNCLEAR, new_clip, patch_labels, sine_positions
from llava.mini.stages.llava import SIGHTS, LlavaData, check_shares, encode_topics, shows_images
from llava.mini.stages.long_clip import is_related, named_words, text_batch
from llava.mini.stages.projector import WORDS, patch_words
from llava.mini.training_set import read_training_set
from llava.model.builder import load_vision
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.train import train_llava
from llava.train.captions import tower_questions
from llava.train.features import ImageFeatures
from llava.train.packing import Packer
from llava.train.provenance import save_weights
from llava.train.pruning import Pruner

# A large green star in the third cell of the first row, a small black ring in the last cell.
THINGS = [Thing("star", "green", "large", 2, 60.0, 12.0, 10.0)]
THINGS += [Thing("ring", "black", "small", 15, 84.0, 84.0, 6.0)]
STAR, FAR, RING = 12 * 1 + 7, 12 * 6 + 2, 12 * 10 + 10  # of 12 x 12 patches


def test_patches_are_what_lies_on_their_middle():
    labels = patch_labels(THINGS, 8)
    said = {name: label[[STAR, RING, FAR]].tolist() for name, label in labels.items()}
    assert said == {
        "color": [1 + COLORS.index("green"), 1 + COLORS.index("black"), NOTHING],
        "shape": [1 + SHAPES.index("star"), 1 + SHAPES.index("ring"), NOTHING],
        "size": [1 + SIZES.index("large"), 1 + SIZES.index("small"), NOTHING],
        "place": [1 + PLACES.index("northeast"), 1 + PLACES.index("southeast"), NOTHING],
        "center": [1, 1, 0],
    }
    around = {12 * 1 + 8: 1 + COLORS.index("green"), 12 * 2 + 8: UNCLEAR, 12 * 1 + 9: NOTHING}
    for patch, label in around.items():  # 8, 11.3 and 16 pixels from the star's centre
        assert labels["color"][patch] == label
    assert (labels["center"] == 1).sum() == 2


def test_words_of_patches_are_those_of_their_labels():
    words, clear = patch_words(THINGS, 8)
    told = [{WORDS[i] for i in words[patch].nonzero()[:, 0]} for patch in (STAR, RING, FAR)]
    assert told == [
        {"green", "star", "large", "northeast"},
        {"black", "ring", "small", "southeast"},
        {"image"},
    ]
    assert clear[[STAR, RING, FAR]].all() and not clear.all()
    assert not words[~clear].any()


def test_positions_tell_rows_and_columns():
    table = sine_positions(3, 8).unflatten(0, (3, 3))
    assert torch.equal(table[1, :, :4], table[1, :1, :4].expand(3, -1))  # rows
    assert torch.equal(table[:, 2, 4:], table[:1, 2, 4:].expand(3, -1))  # columns
    assert len({tuple(row.tolist()) for row in table.flatten(0, 1)}) == 9


@pytest.mark.parametrize(
    "question, caption, related",
    [
        ("Is there a red star?", "A red star and a blue ring.", True),
        ("Is there a red star?", "A red ring and a blue star.", False),
        ("What color is the star?", "A red star.", True),
        ("What color is the star?", "A red ring.", False),
        ("Is the red star above the blue ring?", "A blue ring.", True),
        ("Is the red star above the blue ring?", "A red ring.", False),
        ("How many objects are there?", "A red star.", False),
        ("What shape is it?\nA. star\nB. ring", "A red star.", False),
    ],
)
def test_a_caption_is_related_where_it_names_what_is_asked(question, caption, related):
    assert is_related(question, caption) == related


def test_texts_are_labelled_by_what_they_name():
    batch = text_batch([("Is the red star small?", "A blue ring and a red star.")])
    assert named_words("Is the red star small?") == ["red", "star"]
    words = (*COLORS, *SHAPES)
    assert {words[i] for i in batch.asked[0].nonzero()[:, 0]} == {"red", "star"}
    told = {divmod(i, len(SHAPES)) for i in batch.told[0].nonzero()[:, 0].tolist()}
    assert {(COLORS[c], SHAPES[s]) for c, s in told} == {("blue", "ring"), ("red", "star")}
    assert batch.related.tolist() == [1.0]


@pytest.mark.parametrize("sight", SIGHTS)
def test_sights_show_what_they_should(world, untrained, sight):
    """Visual tokens and caption of each sight, at shares that leave no other."""
    texts = read_training_set(world)
    count, tokenizer = len(texts.images), LlamaTokenizer(untrained)
    arrays = torch.arange(count * 20 * 3.0).reshape(count, 20, 3).numpy()
    features = ImageFeatures(list(range(count)), arrays, arrays, arrays[..., 0])
    pruner = Pruner(defaultdict(lambda: torch.ones(3)), nearest=True)
    shares = [float(name == sight) for name in SIGHTS]
    args = LlavaArguments(questions_per_image=3, shares=shares, exercises=0)
    data = LlavaData(texts, features, pruner, Packer(tokenizer), args)
    batch = data.collate([5, 2], torch.Generator().manual_seed(0))
    both = [set(features.image(number).features[:, 0].tolist()) for number in (5, 2)]
    seen = set(batch.features[:, 0].tolist())
    limits = {"full": (40, 40), "described": (0, 0), "nothing": (0, 0)}
    low, high = limits.get(sight, (2, 10))  # 1/16 to 1/4 of each
    assert low <= len(seen) <= high and seen <= both[0] | both[1]
    hint = "additional information" in tokenizer.decode(batch.ids[0].clamp(min=0).tolist())
    assert hint == (sight in ("compensated", "described"))
    assert batch.labels.shape == batch.ids.shape and batch.weight > 0


@pytest.mark.parametrize("one_in, kept", [([1], 19), ([2], 10), ([100], 1)])
def test_of_a_pruned_image_one_in_so_many_stays(world, untrained, one_in, kept):
    texts = read_training_set(world)
    arrays = np.ones((len(texts.images), 20, 3), dtype=np.float32)
    features = ImageFeatures(list(range(len(arrays))), arrays, arrays, arrays[..., 0])
    pruner = Pruner(defaultdict(lambda: torch.ones(3)), nearest=True)
    shares = [0.0, 1.0, 0.0, 0.0, 0.0]  # pruned
    args = LlavaArguments(questions_per_image=1, shares=shares, exercises=0, one_in=one_in)
    data = LlavaData(texts, features, pruner, Packer(LlamaTokenizer(untrained)), args)
    batch = data.collate([0, 1], torch.Generator().manual_seed(0))
    assert len(batch.features) == 2 * kept


@pytest.mark.parametrize("false_phrases", [0.0, 0.25, 1.0])
def test_captions_are_false_as_often_as_asked(world, untrained, false_phrases):
    texts = read_training_set(world)
    count, tokenizer = len(texts.images), LlamaTokenizer(untrained)
    arrays = np.ones((count, 20, 3), dtype=np.float32)
    features = ImageFeatures(list(range(count)), arrays, arrays, arrays[..., 0])
    pruner = Pruner(defaultdict(lambda: torch.ones(3)), nearest=True)
    args = LlavaArguments(questions_per_image=1, exercises=0, false_phrases=false_phrases)
    args.shares = [0.0, 0.0, 1.0, 0.0, 0.0]  # pruned, with a caption
    data = LlavaData(texts, features, pruner, Packer(tokenizer), args)
    said = []
    for seed in range(60):
        batch = data.collate([0, 1], torch.Generator().manual_seed(seed))
        for place, ids in enumerate(batch.ids.clamp(min=0).tolist()):
            hint = tokenizer.decode(ids).split("additional information: ")[1].split(".")[0]
            true = {describe(thing) for thing in texts.scenes[place]}
            said += [phrase in true for phrase in hint.split(" and ")]
    assert np.mean(said) == pytest.approx(1 - false_phrases, abs=0.1)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--false-phrases", "1.5"], "a share from 0 to 1"),
        (["--one-in", "16", "0"], "--one-in is 16 0: say numbers from 1 on"),
        (["--false-phrases", "nan"], "a share from 0 to 1"),
        (["--false-phrases", "0.2", "--shares", "0.5", "0.5", "0", "0", "0"], "show no captions"),
    ],
)
def test_false_phrases_that_mean_nothing_are_refused(tmp_path, capsys, flags, message):
    words = [f"--{n}={tmp_path / n}" for n in ("model-path", "data", "output", "output-dir")]
    assert train_llava.main([*words, *flags]) == 2
    assert message in capsys.readouterr().err


def test_what_pruning_keeps_follows_the_first_question(world, untrained):
    """Patch i of 20 looks like text i: the question's own patches stay, and are the nearest."""
    texts = read_training_set(world)
    count = len(texts.images)
    patches = np.eye(20, dtype=np.float32)[None].repeat(count, axis=0)
    features = ImageFeatures(list(range(count)), patches, patches, np.zeros((count, 20), "float32"))
    kept = {}
    for place in (3, 17):
        pruner = Pruner(defaultdict(lambda p=place: torch.eye(20)[p]), nearest=True)
        pack = Packer(LlamaTokenizer(untrained))
        shares = [0.0, 1.0, 0.0, 0.0, 0.0]  # pruned
        args = LlavaArguments(questions_per_image=2, shares=shares, exercises=0)
        data = LlavaData(texts, features, pruner, pack, args)
        batches = [data.collate([0], torch.Generator().manual_seed(s)) for s in range(8)]
        kept[place] = [set(batch.features.argmax(dim=-1).tolist()) for batch in batches]
    assert all(3 in one for one in kept[3]) and all(17 in one for one in kept[17])
    assert kept[3] != kept[17]


def test_every_question_that_can_come_first_has_an_embedding(world, untrained, tmp_path):
    texts = read_training_set(world)
    clip = new_clip(untrained / CLIP_NAME, 0)
    tower = shutil.copytree(untrained / CLIP_NAME, tmp_path / CLIP_NAME)
    save_weights(tower / "model.safetensors", clip.state_dict())
    args = ModelArguments(str(untrained), vision_tower=str(tower), device="cpu")
    embedded = encode_topics(load_vision(args), texts)
    asked = [q for conversation in texts.conversations for q, _ in conversation.pairs]
    asked += [q for things in texts.scenes for q, _ in statements(things)] + [CAPTION_PROMPT]
    assert {tower_questions(question)[0] for question in asked} == set(embedded)


@pytest.mark.parametrize(
    "shares", [[1.0], [0.0] * 5, [1, 1, 1, 1, -1], [float("inf"), 0, 0, 0, 0], [float("nan")] * 5]
)
def test_shares_that_nothing_can_be_drawn_by_are_refused(shares):
    with pytest.raises(UserError, match="--shares is .*give 5 numbers"):
        check_shares(shares)


def test_descriptions_alone_need_no_images():
    assert not shows_images([0, 0, 0, 1, 0.5])
    assert all(shows_images([float(name == sight) for name in SIGHTS]) for sight in SIGHTS[:3])
