"""The folder that a mini model starts from: configurations and tokenizers without weights.

They are in the files of the real checkpoints.
"""

from __future__ import annotations

from pathlib import Path

from transformers import GPT2Tokenizer

from llava.files import write_json
from llava.mini.vocabulary import write_clip_tokenizer, write_gpt2_tokenizer, write_llama_tokenizer
from llava.model.language_model.llama_tokenizer import LlamaTokenizer
from llava.model.loading.bpe import read_bpe
from llava.model.multimodal_encoder.clip_tokenizer import ClipTokenizer
from llava.model.shapes import MINI

CLIP_NAME = "clip-vit-mini-patch8-96"


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
