"""LongCLIP's text tower: CLIP's, with 248 positions (arXiv 2508.01236)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from llava.mm_utils import round_up, send
from llava.model.cuda import CudaGraphs

HEAD_WIDTH = 64  # width of a head in OpenAI's CLIP text towers
MLP_RATIO = 4
# The first rows of the position table are those of the CLIP that LongCLIP started from; the others
# are stored apart in the file, as ``positional_embedding_res``.
KEPT_POSITIONS = 20
SAMPLES_PER_ROW = 8  # samples per row of candidates; attention costs grow with its square
# In half precision a row has one sample: rounding in a kernel depends on the length of the row.
SAMPLES_PER_HALF_ROW = 1
WORDS_KEPT = 1 << 14
ROW_STEP = 32  # rows have multiples of this length on a GPU, for few graphs


def build_text_tower(
    width: int, layers: int, embed_dim: int, context_length: int, vocab_size: int
) -> nn.Module:
    """Builds open_clip's text transformer with OpenAI's shapes: ids (B, L) to (B, embed_dim)."""
    from open_clip.transformer import QuickGELU, TextTransformer  # slow to import

    return TextTransformer(
        context_length=context_length,
        vocab_size=vocab_size,
        width=width,
        heads=width // HEAD_WIDTH,
        layers=layers,
        mlp_ratio=MLP_RATIO,
        output_dim=embed_dim,
        act_layer=QuickGELU,
    )


class LongClipText(nn.Module):
    """Encodes texts as features, without normalisation.

    The tower's layers are called from here, because its own forward requires all positions.

    Args:
        tower: from build_text_tower, weights loaded.
        context_length: positions of the tower.
    """

    def __init__(self, tower: nn.Module, context_length: int) -> None:
        super().__init__()
        from open_clip.tokenizer import SimpleTokenizer

        self.tower = tower
        self._tokenizer = SimpleTokenizer(context_length=context_length)
        self._word_ids = lru_cache(WORDS_KEPT)(self._tokenizer.encode)
        self._graphs: CudaGraphs | None = None

    def use_cuda_graphs(self) -> None:
        """Turns the passes over candidates into CUDA graphs on a GPU."""
        self._graphs = CudaGraphs(self._read_texts)

    @property
    def embed_dim(self) -> int:
        """The width of the features."""
        return self.tower.text_projection.shape[1]

    @property
    def samples_per_row(self) -> int:
        """The largest number of samples whose candidates are read in one row."""
        is_half = self.tower.text_projection.dtype != torch.float32
        return SAMPLES_PER_HALF_ROW if is_half else SAMPLES_PER_ROW

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Returns ids (B, L) int64, with L as long as the longest text needs.

        A text longer than the tower's context is cut; its last id is then the end-of-text id.
        """
        # Only the first end-of-text is read and attention is causal: what follows it costs only
        # time.
        rows = [self._ids(text) for text in texts]
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    def _ids(self, text: str) -> list[int]:
        """Returns a text's ids from its begin to the first end-of-text, within the context."""
        tokenizer = self._tokenizer
        # No id spans a blank, and such a text needs no repair, so each word is encoded only once.
        if text.isascii() and text.isprintable() and "&" not in text:
            ids = [i for word in text.split() for i in self._word_ids(word)]
        else:
            ids = tokenizer.encode(text)
        room = tokenizer.context_length - 2
        ids = [tokenizer.sot_token_id, *ids[:room], tokenizer.eot_token_id]
        return ids[: ids.index(max(ids)) + 1]  # the end-of-text has the highest id

    def forward(self, texts: list[str]) -> Tensor:
        """Encodes texts as features (B, embed_dim)."""
        tower = self.tower
        ids = send(self.tokenize(texts), tower.positional_embedding.device)
        length = ids.shape[1]
        x = tower.token_embedding(ids) + tower.positional_embedding[:length]
        x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
        ends = tower.ln_final(x)[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
        return ends @ tower.text_projection

    def candidate_features(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Returns features (B, W, embed_dim) of W texts of each sample with a common beginning.

        The common beginning of a sample's texts is read once, and all texts are packed into a
        single row (in half precision one row per sample), each attending only to its own: torch's
        MultiheadAttention copies its weights for every position where there are several rows.
        """
        device = self.tower.positional_embedding.device
        size = 1 if device.type == "cuda" else self.samples_per_row
        rows = [self.pack(texts[i : i + size]) for i in range(0, len(texts), size)]
        if device.type == "cuda":  # few large kernels, of few shapes
            return self._read_rows(rows, ROW_STEP)
        return torch.cat([self._read_rows([row], 1) for row in rows])

    def pack(self, texts: Sequence[Sequence[str]]) -> PackedTexts:
        """Packs texts as candidate_features reads them."""
        return pack([[self._ids(text) for text in row] for row in texts])

    def _read_rows(self, rows: Sequence[PackedTexts], multiple: int) -> Tensor:
        """Returns the features (B, W, embed_dim) of the texts of R rows, with as many in each.

        Args:
            rows: R packed rows.
            multiple: their length is rounded up to a multiple of this number.
        """
        length = round_up(max(len(row.ids) for row in rows), multiple)
        padding = [length - len(row.ids) for row in rows]
        columns = [  # ids, positions, samples, texts; padding is a sample of its own
            [[*values, *[fill] * more] for values, more in zip(each, padding)]
            for each, fill in zip(
                zip(*((row.ids, row.positions, row.samples, row.texts) for row in rows)),
                (0, 0, -1, -1),
            )
        ]
        ends = [
            [r * length + end for end in of_one]
            for r, row in enumerate(rows)
            for of_one in row.ends
        ]
        device = self.tower.positional_embedding.device
        run = self._graphs or self._read_texts
        ids, positions, sample, text = send(columns, device)
        return run(ids, positions, sample, text, send(ends, device))

    def _read_texts(
        self, ids: Tensor, positions: Tensor, sample: Tensor, text: Tensor, ends: Tensor
    ) -> Tensor:
        """Reads packed texts.

        Args:
            ids, positions, sample, text: (R, L) int64; see PackedTexts.
            ends: (B, W) int64, indices of the texts' ends in the R * L positions.

        Returns:
            (B, W, embed_dim).
        """
        tower = self.tower
        place = torch.arange(ids.shape[1], device=ids.device)
        alike = text[:, None, :]
        sees = (sample[:, None, :] == sample[..., None]) & (
            (alike < 0) | (alike == text[..., None])
        )
        sees &= place <= place[:, None]
        mask = torch.zeros(sees.shape, device=ids.device, dtype=tower.text_projection.dtype)
        mask = mask.masked_fill(~sees, -torch.inf)
        if len(ids) == 1:
            mask = mask[0]
        else:  # one mask for each head
            heads = tower.transformer.width // HEAD_WIDTH
            mask = mask.repeat_interleave(heads, dim=0)
        x = tower.token_embedding(ids) + tower.positional_embedding[positions]
        x = tower.ln_final(tower.transformer(x, attn_mask=mask)).flatten(0, 1)
        return x[ends] @ tower.text_projection


@dataclass(frozen=True)
class PackedTexts:
    """Texts of several samples in one row of L ids.

    For each sample, the common beginning of its texts comes first, then the rest of each.

    Attributes:
        ids: L token ids.
        positions: of each id in its text, L of them.
        samples: the index of each id's sample, L of them.
        texts: the index of each id's text, L of them; -1 for the common beginning.
        ends: for each of B samples, the indices in the row of the last ids of its W texts.
    """

    ids: list[int]
    positions: list[int]
    samples: list[int]
    texts: list[int]
    ends: list[list[int]]


def pack(rows: Sequence[Sequence[list[int]]]) -> PackedTexts:
    """Packs the ids of B samples' texts."""
    packed = PackedTexts([], [], [], [], [])
    for sample, texts in enumerate(rows):
        shared = _shared_length(texts)
        pieces = [(-1, texts[0][:shared]), *((w, ids[shared:]) for w, ids in enumerate(texts))]
        packed.ends.append([])
        for text, ids in pieces:
            start = 0 if text < 0 else shared
            packed.ids.extend(ids)
            packed.positions.extend(range(start, start + len(ids)))
            packed.samples.extend([sample] * len(ids))
            packed.texts.extend([text] * len(ids))
            if text >= 0:
                packed.ends[-1].append(len(packed.ids) - 1)
    return packed


def _shared_length(texts: Sequence[list[int]]) -> int:
    """Counts the ids that all texts begin with; each text keeps at least one id of its own."""
    longest = min(len(ids) for ids in texts) - 1
    alike = (len({ids[place] for ids in texts}) == 1 for place in range(longest))
    return next((place for place, same in enumerate(alike) if not same), longest)


def merge_positions(positional_embedding: Tensor, residual: Tensor) -> Tensor:
    """Merges the two position tables of the file into one, (L, C)."""
    return torch.cat([positional_embedding[:KEPT_POSITIONS], residual[KEPT_POSITIONS:]])
