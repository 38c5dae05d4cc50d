"""Where a site's tokens come from: encoded anew at each step, or computed once where encoders are frozen."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remind.data.batch import Batch, SiteData
from remind.training.site_model import SiteModel

CHUNK = 512  # patients encoded at a time for the cache


class TokenSource(Protocol):
    """Batches of a site's patients with their tokens."""

    def batch(self, index_B: NDArray[np.int64]) -> tuple[Batch, Tensor]:
        """The patients at these positions and their tokens (B, M, D)."""


class FreshTokens:
    """Tokens encoded when asked for, with gradient: stage 1."""

    def __init__(self, model: SiteModel, data: SiteData) -> None:
        self.model, self.data = model, data

    def batch(self, index_B: NDArray[np.int64]) -> tuple[Batch, Tensor]:
        """See `TokenSource`."""
        batch = self.data.batch(index_B)
        return batch, self.model.tokens(batch)


class CachedTokens:
    """Tokens of all patients, encoded once in eval mode: stage 2, and frozen encoders throughout."""

    def __init__(self, model: SiteModel, data: SiteData) -> None:
        model.eval()
        with torch.no_grad():
            chunks = np.split(np.arange(len(data)), range(CHUNK, len(data), CHUNK))
            batches = [data.batch(chunk) for chunk in chunks]
            self.tokens_NMD = torch.cat([model.tokens(batch) for batch in batches])
        self._group_N = torch.cat([batch.group_B for batch in batches])
        self._presence_Nm = torch.cat([batch.presence_Bm for batch in batches])
        self._label_N = torch.cat([batch.label_B for batch in batches])

    def batch(self, index_B: NDArray[np.int64]) -> tuple[Batch, Tensor]:
        """See `TokenSource`; the batch comes without the modalities' values."""
        rows = torch.from_numpy(index_B).to(self.tokens_NMD.device)
        batch = Batch(rows, self._group_N[rows], self._presence_Nm[rows], self._label_N[rows], {})
        return batch, self.tokens_NMD[rows]
