"""The CLIP tower: one forward pass gives all values that pruning and compensation need.

transformers' own CLIP is composed, not changed: the tower reads its hidden states and calls its
layers from outside.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel

from llava.mm_utils import round_up, rounds_by_rows, send
from llava.model.cuda import CudaGraphs
from llava.model.multimodal_encoder.layer_values import layer_value
from llava.model.multimodal_encoder.visual_tokens import (
    OF_IMAGE,
    OF_QUESTION,
    Needs,
    VisualTokens,
    each_of,
    fields_of,
)

# How many visual tokens of an image the LLM reads, unless a command or a sample says otherwise. Any
# number from 1 to the number of patches, or a share of them, "1/9" or "11%" (see llava/budgets.py);
# all patches means no pruning. It is set only here.
VISUAL_TOKEN_NUM = 36
TEXT_STEP = 11  # questions have multiples of this length on a GPU; CLIP reads at most 77 ids


class ClipTower(nn.Module):
    """CLIP's two towers as ACCM uses them (arXiv 2508.01236).

    Args:
        clip: transformers' CLIP, vision and text.
        patch_post_layernorm: whether the patches pass the final layer norm before they are
            projected, as the CLS does in CLIP.
        select_layer: the hidden state that becomes the features, counted from the end.

    Attributes:
        image_size: the side of the tower's input in pixels.
        num_patches: the number of patches N.
    """

    def __init__(
        self, clip: CLIPModel, patch_post_layernorm: bool = True, select_layer: int = -2
    ) -> None:
        super().__init__()
        self.clip = clip
        self.select_layer = select_layer
        self.patch_post_layernorm = patch_post_layernorm
        sizes = clip.config.vision_config
        self.image_size = sizes.image_size
        self.num_patches = (sizes.image_size // sizes.patch_size) ** 2
        self._vision_graphs: CudaGraphs | None = None
        self._text_graphs: CudaGraphs | None = None

    def use_cuda_graphs(self) -> None:
        """Turns the passes of both towers into CUDA graphs on a GPU."""
        self._vision_graphs = CudaGraphs(self._vision_pass)
        self._text_graphs = CudaGraphs(self._text_pass)

    @property
    def body(self) -> nn.Module:
        """The module whose matrix products have a form; see llava.model.products.forms."""
        return self.clip

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.clip.logit_scale.device

    @property
    def max_text_length(self) -> int:
        """The number of token ids that the text tower reads at most."""
        return self.clip.config.text_config.max_position_embeddings

    def forward(
        self, pixel_values: Tensor, needs: Needs = OF_IMAGE, at_once: bool = False
    ) -> list[VisualTokens]:
        """Encodes images.

        Args:
            pixel_values: (B, 3, S, S), preprocessed; moved to the tower's device and dtype.
            needs: the values to compute in addition to the features.
            at_once: whether they are the views of one image, which always pass together, so that
                the result does not depend on other images; in half precision on a CPU this takes
                half the time of passes one by one.

        Returns:
            The visual tokens of B images.
        """
        size = 1 if rounds_by_rows(self.clip) and not at_once else len(pixel_values)
        parts = pixel_values.split(size)
        needs &= ~(OF_QUESTION | Needs.PROJECTED)
        return [image for part in parts for image in self._encode(part, needs)]

    def _encode(self, pixel_values: Tensor, needs: Needs) -> list[VisualTokens]:
        """Encodes images in one pass."""
        kind = self.clip.logit_scale  # has the device and dtype of all weights
        pixels = send(pixel_values, kind.device).to(kind.dtype)
        run = self._vision_graphs or self._vision_pass
        features, *others = run(pixels, needs=needs)
        names = fields_of(needs)
        return [
            VisualTokens(image, **dict(zip(names, more))) for image, *more in zip(features, *others)
        ]

    def _vision_pass(self, pixels: Tensor, needs: Needs) -> tuple[Tensor, ...]:
        """Returns the features and fields_of(needs) for (B, 3, S, S), each with B first."""
        vision = self.clip.vision_model
        # A GPU would round the convolution of float32 to TF32; float32 is asked for to be exact.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            out = vision(pixels, output_hidden_states=True)
        found = [out.hidden_states[self.select_layer][:, 1:]]
        if Needs.PATCH_EMBEDS in needs:
            last = out.last_hidden_state[:, 1:]
            normed = vision.post_layernorm(last) if self.patch_post_layernorm else last
            found.append(self.clip.visual_projection(normed))
        if Needs.CLS_ATTENTION in needs:
            found.append(class_attention(vision.encoder.layers[-1], out.hidden_states[-2]))
        for need in each_of(needs & ~OF_IMAGE):
            if need is Needs.FEATURE_EMBEDS:
                found.append(self.clip.visual_projection(vision.post_layernorm(found[0])))
            else:
                layers = vision.encoder.layers
                found.append(layer_value(need, layers, out.hidden_states, self.select_layer))
        return tuple(found)

    def embed_text(self, token_ids: list[list[int]]) -> Tensor:
        """Encodes questions as (B, P) float32 of unit length; see project_text."""
        return F.normalize(self.project_text(token_ids), dim=-1)

    def project_text(self, token_ids: list[list[int]]) -> Tensor:
        """Encodes questions.

        Args:
            token_ids: B lists of at most max_text_length ids, each ending in the end-of-text id.

        Returns:
            (B, P) float32, not normalised.
        """
        if rounds_by_rows(self.clip):
            return torch.cat([self._embed([ids]) for ids in token_ids])
        return self._embed(token_ids)

    def _embed(self, token_ids: list[list[int]]) -> Tensor:
        """Encodes questions in one pass."""
        step = TEXT_STEP if self.device.type == "cuda" else 1
        length = round_up(max(len(ids) for ids in token_ids), step)
        # Attention is causal and the first end-of-text is read, so what follows it changes nothing.
        rows = [ids + [ids[-1]] * (length - len(ids)) for ids in token_ids]
        run = self._text_graphs or self._text_pass
        return run(send(rows, self.device))

    def _text_pass(self, ids: Tensor) -> Tensor:
        """Encodes questions (B, L) as (B, P) float32."""
        pooled = self.clip.text_model(ids, attention_mask=self._causal_mask(ids)).pooler_output
        return self.clip.text_projection(pooled).float()

    def _causal_mask(self, ids: Tensor) -> Tensor | None:
        """Returns transformers' mask for (B, L) where its attention is plain, else None.

        transformers would make the same mask from a number on the CPU, which a CUDA graph must not
        read.
        """
        if self.clip.text_model.config._attn_implementation != "eager":
            return None
        kind = self.clip.logit_scale
        lowest = torch.finfo(kind.dtype).min
        mask = torch.full(
            (ids.shape[1], ids.shape[1]), lowest, dtype=kind.dtype, device=kind.device
        )
        return mask.triu(1).expand(len(ids), 1, -1, -1)


def class_attention(layer: nn.Module, hidden: Tensor) -> Tensor:
    """Returns the attention of the CLS over the patches, all heads taken together.

    A quirk of the reference, kept: queries and keys are not split into heads, so this is not the
    attention that the layer itself computes. Only the row of the CLS is ever needed.

    Args:
        layer: a CLIP encoder layer.
        hidden: (B, 1 + N, C), the layer's input, the CLS first.

    Returns:
        (B, N) float32.
    """
    normed = layer.layer_norm1(hidden)
    # One row per image, whatever the batch: a kernel for several rows rounds differently.
    query = torch.stack([layer.self_attn.q_proj(image[:1]) for image in normed]).float()
    keys = layer.self_attn.k_proj(normed).float()
    scores = (query @ keys.transpose(1, 2)).squeeze(1) * keys.shape[-1] ** -0.5
    return scores.softmax(dim=-1)[:, 1:]
