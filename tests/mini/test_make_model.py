"""What a mini model has before it is trained: shapes and tokenizers that fit the method."""

import json
import shutil

import pytest
from transformers import GPT2Tokenizer

from llava.arguments import ModelArguments
from llava.constants import IMAGE_TOKEN_INDEX
from llava.mini import make_model
from llava.mini.architecture import CLIP_NAME, constant_phrases
from llava.mini.language import caption, conversations
from llava.mini.scene import make_scene, scene_generator
from llava.mini.stages.clip import new_clip
from llava.mini.stages.projector import WORDS
from llava.model.builder import load_vision
from llava.model.compensation.caption_writer import MAX_CAPTION_LENGTH, STOP_TEXT
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.loading.bpe import read_bpe
from llava.model.multimodal_encoder.builder import count_patches
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.prompt_ids import CAPTION_OFFSET, prompt_ids
from llava.train.captions import tower_questions


@pytest.fixture(scope="module")
def said():
    """Questions, answers and captions of scenes that the tokenizers were not learnt from."""
    questions, answers, captions = [], [], []
    for number in range(60):
        generator = scene_generator(1, "test", number)
        scene = make_scene(generator)
        captions.append(caption(scene, generator))
        for question, answer in conversations(scene, generator):
            questions.append(question)
            answers.append(answer)
    return questions, answers, captions


def test_the_llm_reads_and_writes_every_text(untrained, said):
    tokenizer = LlamaTokenizer(untrained)
    questions, answers, captions = said
    for text in [*answers, *captions, *(line for q in questions for line in q.split("\n"))]:
        ids = tokenizer.encode(text)
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text


def test_constant_phrases_are_single_pieces(untrained):
    tokenizer = LlamaTokenizer(untrained)
    for phrase in constant_phrases():
        ids = tokenizer.encode(phrase)
        # Begin-of-text, a blank, the phrase.
        assert len(ids) == 3 and tokenizer.decode(ids) == phrase


def test_words_for_patches_are_single_tokens(untrained):
    tokenizer = LlamaTokenizer(untrained)
    ids = [tokenizer.encode(word) for word in WORDS]
    assert all(len(row) == 2 for row in ids)  # begin-of-text and the word
    assert len({row[-1] for row in ids}) == len(WORDS)


def test_a_caption_goes_behind_the_images_newline(untrained):
    tokenizer = LlamaTokenizer(untrained)
    before = set()
    for question in ("What is red?", "Is there a circle?"):
        ids = prompt_ids(question, tokenizer)
        place = ids.index(IMAGE_TOKEN_INDEX) + CAPTION_OFFSET
        before.add(tuple(ids[:place]))
        assert tokenizer.decode(ids[place:]) == f"{question} ASSISTANT:"
    assert len(before) == 1


def test_the_caption_model_reads_questions_and_ends_with_a_stop(untrained, said):
    tokenizer = read_bpe(GPT2Tokenizer, untrained / "gpt2")
    questions, _, captions = said
    (stop,) = tokenizer.encode(STOP_TEXT)
    for text in captions:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert ids.index(stop) == len(ids) - 1 < MAX_CAPTION_LENGTH
    positions = json.loads((untrained / "gpt2" / "config.json").read_text())["n_positions"]
    longest = max(len(tokenizer.encode(question)) for question in questions)
    assert longest + 20 + MAX_CAPTION_LENGTH <= positions


def test_clip_reads_questions_whole(untrained, said):
    tokenizer = ClipTokenizer(untrained / CLIP_NAME)
    questions, _, captions = said
    towers = [form for question in questions for form in tower_questions(question)]
    for text in [*captions, *towers]:
        assert tokenizer.encode(text, 1000) == tokenizer.encode(text, 77)


def test_the_tower_is_loaded_before_the_llm_has_weights(untrained, tmp_path):
    shutil.copytree(untrained, tmp_path / "model")
    clip = tmp_path / "model" / CLIP_NAME
    new_clip(clip, seed=0).save_pretrained(tmp_path / "weights")
    shutil.copy(tmp_path / "weights" / "model.safetensors", clip)
    seen = load_vision(ModelArguments(str(tmp_path / "model"), device="cpu"))
    assert seen.folder == clip and seen.text_selection == "nearest"
    assert seen.tower.num_patches == count_patches(clip) == 144
    assert not any(p.requires_grad for p in seen.tower.parameters()) and not seen.tower.training


@pytest.mark.parametrize(
    "flags, says",
    [([], "--out FOLDER"), (["--out", "x", "--text-selection", "far"], "say farthest or nearest")],
)
def test_flags_that_do_not_fit(flags, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert make_model.main(flags) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
