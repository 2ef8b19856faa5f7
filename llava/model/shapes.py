"""The sizes of whole models by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

CLIP_VOCABULARY = 49408  # CLIP's; LongCLIP has it in every size


@dataclass(frozen=True)
class ModelShape:
    """Sizes of all parts of a model.

    Attributes:
        vision, text, gpt2, llm: arguments of transformers' configurations.
        projection: P, the width that image and text share.
        long_clip: arguments of build_text_tower.
        mapper_layers, selector_layers: of the caption model and the selector.
        resolutions: heights and widths in pixels of LLaVA-NeXT, the best of which an image is
            scaled to; empty for LLaVA-1.5.
    """

    vision: dict
    text: dict
    gpt2: dict
    llm: dict
    projection: int
    long_clip: dict
    mapper_layers: int = 4
    selector_layers: int = 4
    resolutions: tuple[tuple[int, int], ...] = ()


# Vocabularies of text tower, GPT-2 and LLM depend on the mini world: they are not given here.
MINI = ModelShape(
    vision=dict(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=96,
        patch_size=8,
        hidden_act="gelu",
    ),
    text=dict(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        hidden_act="gelu",
        max_position_embeddings=77,
    ),
    gpt2=dict(
        n_embd=128,
        n_layer=3,
        n_head=4,
        n_positions=256,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    ),
    llm=dict(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        rope_theta=1e5,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    ),
    projection=64,
    long_clip=dict(
        width=128, layers=3, embed_dim=64, context_length=248, vocab_size=CLIP_VOCABULARY
    ),
    mapper_layers=2,
)


def _llama(width: int, mlp: int, layers: int, heads: int) -> dict:
    return dict(
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        vocab_size=32000,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
    )


LLAVA_7B = ModelShape(
    vision=dict(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    ),
    text=dict(
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        vocab_size=CLIP_VOCABULARY,
    ),
    gpt2={},  # transformers' defaults are GPT-2 small
    llm=_llama(4096, 11008, 32, 32),
    projection=768,
    long_clip=dict(
        width=768, layers=12, embed_dim=768, context_length=248, vocab_size=CLIP_VOCABULARY
    ),
)
LLAVA_13B = replace(LLAVA_7B, llm=_llama(5120, 13824, 40, 40))
LLAVA_NEXT_7B = replace(
    LLAVA_7B, resolutions=((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
)


@dataclass(frozen=True)
class QwenShape:
    """Sizes of a Qwen2.5-VL.

    Attributes:
        vision, llm: arguments of transformers' configurations.
        grid: rows and columns of an image's visual tokens, where images are drawn.
    """

    vision: dict
    llm: dict
    grid: tuple[int, int]


def _qwen(width: int, mlp: int, layers: int, heads: int, shared: int, vocabulary: int) -> QwenShape:
    vision = dict(hidden_size=1280, num_heads=16, out_hidden_size=width)  # depth and MLP: defaults
    llm = dict(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        max_position_embeddings=128000,
        rms_norm_eps=1e-6,
        rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[16, 24, 24]),
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=width == 2048,
    )
    return QwenShape(vision, llm, (36, 36))  # 1008 x 1008 pixels: 1,296 tokens


QWEN_3B = _qwen(2048, 11008, 36, 16, 2, 151936)
QWEN_7B = _qwen(3584, 18944, 28, 28, 4, 152064)
QWEN_TINY = QwenShape(
    dict(
        depth=2,
        hidden_size=32,
        intermediate_size=48,
        num_heads=2,
        out_hidden_size=64,
        window_size=56,
        fullatt_block_indexes=[1],
    ),
    QWEN_3B.llm
    | dict(
        vocab_size=1024,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        rope_parameters=dict(rope_type="default", rope_theta=1e4, mrope_section=[2, 3, 3]),
        max_position_embeddings=4096,
    ),
    (6, 6),
)
