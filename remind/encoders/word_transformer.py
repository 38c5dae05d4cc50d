"""A small transformer over hashed words, for notes in any language if nothing can be downloaded.

Words that share a row of the embedding can only be distinguished by their context.
Shapes: P patients, T positions of the longest note in the batch, D width.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from remind.config import ModelConfig

LAYERS = 2
WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
START = 0  # row of the start token, so that a note without words has at least one token


class WordReader:
    """Notes → rows of the embedding.

    Parameters
    ----------
    buckets
        Number of rows for words, after the row of `START`.
    length
        Maximum number of tokens, including `START`.
    """

    first = True

    def __init__(self, buckets: int, length: int) -> None:
        self.buckets, self.length = buckets, length

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return rows (P, T), int64, and False where a position is padding, bool."""
        rows = [torch.tensor([START, *self._rows(text)][: self.length]) for text in texts]
        row_PT = pad_sequence(rows, batch_first=True, padding_value=START)
        count_P = torch.tensor([len(one) for one in rows])
        return row_PT, torch.arange(row_PT.shape[1]) < count_P[:, None]

    def _rows(self, text: str) -> list[int]:
        return [1 + _hash(word) % self.buckets for word in WORD.findall(text.lower())]


class WordTransformer(nn.Module):
    """Embedding, sinusoidal position encoding, pre-norm layers."""

    place_TD: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.embedding = nn.Embedding(1 + config.encoders.buckets, width)
        self.register_buffer("place_TD", sinusoids(config.encoders.text_length, width), persistent=False)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, config.heads, 4 * width, config.dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(width)

    @property
    def table(self) -> nn.Embedding:
        """The embedding that the reader's numbers index."""
        return self.embedding

    def forward(self, row_PT: Tensor, valid_PT: Tensor) -> Tensor:
        """Return a vector per position, (P, T, D); for padding any finite value."""
        h_PTD = self.embedding(row_PT) + self.place_TD[: row_PT.shape[1]]
        for layer in self.layers:
            h_PTD = layer(h_PTD, src_key_padding_mask=~valid_PT)
        out: Tensor = self.norm(h_PTD)
        return out


def sinusoids(places: int, width: int) -> Tensor:
    """Return sines in even and cosines in odd features, with wavelengths from 2π to 10 000·2π positions, (T, D)."""
    place_T1 = torch.arange(places, dtype=torch.float64)[:, None]
    pair_D = torch.arange(width) // 2
    angle_TD = place_T1 / 10_000 ** (2 * pair_D / width)
    return torch.where(torch.arange(width) % 2 == 0, angle_TD.sin(), angle_TD.cos()).to(torch.get_default_dtype())


@lru_cache(maxsize=2**16)
def _hash(word: str) -> int:
    """Return 63 bits, the same in every process and at every site."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "big") >> 1
