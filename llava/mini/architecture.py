"""The folder that a mini model starts from: configurations and tokenizers without weights.

They are in the files of the real checkpoints; the tokenizers are trained on the mini world's text.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GPT2Tokenizer

from llava.constants import (
    CAPTION_HEADING,
    DEFAULT_IMAGE_TOKEN,
    OPTION_LETTER_SUFFIX,
    SHORT_ANSWER_SUFFIX,
    YES_OR_NO,
)
from llava.conversation import question_prompt
from llava.files import write_json, write_text
from llava.mini.language import CAPTION_PROMPT, LETTERS, NUMBERS, caption, conversations
from llava.mini.scene import make_scene, scene_generator
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.loading.bpe import read_bpe
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.shapes import MINI

CLIP_NAME = "clip-vit-mini-patch8-96"
_SCENES = 1500  # enough for every word to occur
_BPE_MERGES = 700
_PIECES = 700
_CLIP_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
_GPT2_SPECIAL = "<|endoftext|>"
_BLANK = "▁"  # SentencePiece's


def write_architecture(folder: Path, seed: int, text_selection: str) -> None:
    """Writes all files that a mini model has before it is trained.

    Args:
        folder: of LLaVA; CLIP and GPT-2 are written into folders in it.
        seed: of the scenes that the tokenizers are trained on.
        text_selection: "farthest" or "nearest", for config.json; see select_tokens.
    """
    clip, gpt2 = folder / CLIP_NAME, folder / "gpt2"
    write_llama_tokenizer(folder, seed)
    write_clip_tokenizer(clip, seed)
    write_gpt2_tokenizer(gpt2, seed)
    words = len(ClipTokenizer(clip))
    text = MINI.text | dict(vocab_size=words, bos_token_id=words - 2, eos_token_id=words - 1)
    config = dict(model_type="clip", vision_config=MINI.vision, text_config=text)
    write_json(clip / "config.json", config | dict(projection_dim=MINI.projection))
    size = len(read_bpe(GPT2Tokenizer, gpt2))
    end = dict(bos_token_id=size - 1, eos_token_id=size - 1)  # as in GPT-2, its only special token
    write_json(gpt2 / "config.json", dict(model_type="gpt2", vocab_size=size, **end, **MINI.gpt2))
    tokenizer = LlamaTokenizer(folder)
    llava = dict(
        model_type="llava",
        architectures=["LlavaLlamaForCausalLM"],
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        mm_projector_type="mlp2x_gelu",
        mm_vision_tower=CLIP_NAME,
        mm_hidden_size=MINI.vision["hidden_size"],
        mm_vision_select_layer=-2,
        mm_vision_select_feature="patch",
        mm_use_im_start_end=False,
        image_aspect_ratio="pad",
        accm_text_selection=text_selection,
        **MINI.llm,
    )
    write_json(folder / "config.json", llava)


def corpus(seed: int) -> list[str]:
    """Returns all texts about some scenes, and the text around them in prompts."""
    texts = [
        question_prompt("").replace(DEFAULT_IMAGE_TOKEN, " "),
        CAPTION_HEADING,
        *(f"{letter}." for letter in LETTERS),
        *NUMBERS,
    ] * 50
    for number in range(_SCENES):
        generator = scene_generator(seed, "train", number)
        scene = make_scene(generator)
        texts.append(caption(scene, generator))
        for question, answer in conversations(scene, generator):
            texts += [*question.split("\n"), answer]
    return texts


def constant_phrases() -> list[str]:
    """Returns the text that prompts repeat literally: half of the words that a small LLM reads."""
    before, after = question_prompt("").split(f"{DEFAULT_IMAGE_TOKEN}\n")
    asked_for = (SHORT_ANSWER_SUFFIX.strip(), OPTION_LETTER_SUFFIX.strip(), YES_OR_NO)
    return [before.strip(), after.strip(), *asked_for, CAPTION_PROMPT, CAPTION_HEADING]


def write_llama_tokenizer(folder: Path, seed: int) -> None:
    """Trains SentencePiece with Llama's settings: byte-pair, digits apart, bytes for the unknown.

    Constant phrases are one piece each. A newline has no piece: it becomes the dummy space and the
    byte that the caption's place is counted by.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in corpus(seed) for line in text.split("\n")),
        model_writer=model,
        model_type="bpe",
        vocab_size=_PIECES,
        byte_fallback=True,
        split_digits=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        hard_vocab_limit=False,
        user_defined_symbols=[text.replace(" ", _BLANK) for text in constant_phrases()],
        num_threads=1,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    write_json(folder / "tokenizer_config.json", {"legacy": False})


def write_gpt2_tokenizer(folder: Path, seed: int) -> None:
    """Trains GPT-2's byte-level byte pairs: vocab.json and merges.txt."""
    texts = corpus(seed)
    # GPT-2's tokens carry the space before a word; a question begins without one.
    merges = _learn_merges([*texts, *(f" {text}" for text in texts)], ending="")
    symbols = sorted(ByteLevel.alphabet())
    words = [*symbols, *("".join(pair) for pair in merges), _GPT2_SPECIAL]
    _write_bpe(folder, words, merges)
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "GPT2Tokenizer", "eos_token": _GPT2_SPECIAL},
    )


def write_clip_tokenizer(folder: Path, seed: int) -> None:
    """Trains CLIP's lower-case byte pairs with an end-of-word mark: vocab.json and merges.txt."""
    merges = _learn_merges([text.lower() for text in corpus(seed)], ending="</w>")
    symbols = sorted(ByteLevel.alphabet())
    words = [*symbols, *(s + "</w>" for s in symbols), *("".join(pair) for pair in merges)]
    _write_bpe(folder, [*words, *_CLIP_SPECIAL], merges)


def _learn_merges(texts: list[str], ending: str) -> list[tuple[str, str]]:
    model = models.BPE(end_of_word_suffix=ending)
    tokenizer = Tokenizer(model)
    if ending:
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=10**6,
        min_frequency=5,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        end_of_word_suffix=ending,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(pair) for pair in merges][:_BPE_MERGES]


def _write_bpe(folder: Path, words: list[str], merges: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "vocab.json", {word: i for i, word in enumerate(words)})
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    write_text(folder / "merges.txt", "\n".join(lines) + "\n")
