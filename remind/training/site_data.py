"""Sources of a site's tokens: encoded again at each step, or computed once if encoders are frozen."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from remind.data.batches.batch import Batch, SiteData
from remind.data.batches.lazy import Request
from remind.encoders.alone.encoder import ALONE
from remind.privacy.tape import current_tape
from remind.seeds import derive
from remind.training.site_model import SiteModel, side_by_side
from remind.training.token_cache import TokenCache, cache_key

Integers = NDArray[np.int64]
MOST_MAPPED = 2**26  # numbers in the feature maps of the patients that are evaluated at a time
CHUNK, LAZY_CHUNK = 512, 64  # patients evaluated or encoded at a time; fewer if pictures must be read


class TokenSource(Protocol):
    """Batches of a site's patients with their tokens."""

    chunk: int

    def batches(self, indices: Sequence[Integers], augment: int | None = None) -> Iterator[tuple[Batch, Tensor]]:
        """Yield the patients at these positions, batch by batch, with their tokens (B, M, D).

        Parameters
        ----------
        indices
            Positions (B,) of each batch.
        augment
            Seed of the augmentation of training pictures; None: no augmentation.
        """


class FreshTokens(TokenSource):
    """Encodes tokens on request, with gradient: stage 1."""

    def __init__(self, model: SiteModel, data: SiteData) -> None:
        self.model, self.data = model, data
        self.chunk = LAZY_CHUNK if data.lazy else CHUNK
        if model.maps:  # maps are large: as many patients as have 256 MiB of them
            self.chunk = max(1, min(LAZY_CHUNK, MOST_MAPPED // (sum(model.map_rows.values()) * model.width)))

    @override
    def batches(self, indices: Sequence[Integers], augment: int | None = None) -> Iterator[tuple[Batch, Tensor]]:
        seeds = [None if augment is None else derive(augment, "batch", i) for i in range(len(indices))]
        separate = self.model.separate if current_tape() is not None else ()
        together = tuple(name for name in self.model.counts if name not in separate) if separate else None
        requests = []
        for index_B, seed in zip(indices, seeds, strict=True):
            requests.append(Request(index_B, seed, together))
            for i, index in enumerate(index_B if separate else ()):
                own = None if seed is None else derive(seed, "patient", i)
                requests.append(Request(np.array([index]), own, separate))
        batches = self.data.batches(requests)
        for index_B in indices:
            batch = next(batches)
            yield batch, self.model.tokens(batch, [next(batches) for _ in index_B] if separate else ())


class CachedTokens(TokenSource):
    """Tokens of all patients, encoded once in eval mode: stage 2, and every stage with frozen encoders.

    Parameters
    ----------
    model, data
        Model and data of the site.
    cache
        Where tokens are stored.
    digests
        Digest of each encoder's weights, by modality.
    """

    def __init__(self, model: SiteModel, data: SiteData, cache: TokenCache, digests: Mapping[str, str]) -> None:
        self.model, self.data, self.chunk = model, data, CHUNK
        schemas = {m.name: m for m in data.cohort.schema.modalities}
        dtype = torch.bfloat16 if model.autocast else data.dtype
        self._row_Nm = np.cumsum(data.cohort.presence_Nm, axis=0) - 1  # row of a patient among those with the modality
        shapes = {
            name: (int(data.cohort.presence_Nm[:, i].sum()), count, model.width)
            for i, (name, count) in enumerate(model.counts.items())
        }
        digests = {name: digest for name, digest in digests.items() if name in schemas}
        keys = {name: cache_key(digest, schemas[name], data.digests[name], dtype) for name, digest in digests.items()}
        self._tokens = {name: cache.find(name, keys[name], shapes[name], dtype) for name in keys}
        if lacking := [name for name, tokens in self._tokens.items() if tokens is None]:
            self._encode(lacking, cache, keys, shapes, dtype)
        for name in shapes.keys() - keys.keys():  # modalities for which the site has no encoder and no patient
            self._tokens[name] = torch.empty(shapes[name], dtype=dtype)
        self._alone_NRD = self._known_alone()

    @torch.no_grad()
    def _known_alone(self) -> Tensor | None:
        """Compute what the site knows alone of every patient, (N, R, D): few numbers, new in every process."""
        if ALONE not in self.model.encoders:
            return None
        reads = self.model.encoders[ALONE].reads
        chunks = np.split(np.arange(len(self.data)), range(CHUNK, len(self.data), CHUNK))
        batches = self.data.batches([Request(chunk, only=reads) for chunk in chunks])  # type: ignore[arg-type]
        return torch.cat([alone_BRD for b in batches if (alone_BRD := self.model.alone(b)) is not None])

    @torch.no_grad()
    def _encode(
        self,
        names: Sequence[str],
        cache: TokenCache,
        keys: Mapping[str, str],
        shapes: Mapping[str, tuple[int, int, int]],
        dtype: torch.dtype,
    ) -> None:
        """Fill the caches of these modalities in one pass over the patients."""
        self.model.eval()
        everybody = np.arange(len(self.data))
        chunks = np.split(everybody, range(LAZY_CHUNK, len(everybody), LAZY_CHUNK))
        with cache.writing({name: (keys[name], shapes[name]) for name in names}, dtype) as tokens:
            start = dict.fromkeys(names, 0)
            for batch in self.data.batches([Request(chunk, only=tuple(names)) for chunk in chunks]):
                for name in names:
                    encoded_PlD = self.model.encode(name, batch)
                    tokens[name][start[name] : start[name] + len(encoded_PlD)] = encoded_PlD.to("cpu", dtype)
                    start[name] += len(encoded_PlD)
        self._tokens |= {name: cache.find(name, keys[name], shapes[name], dtype) for name in names}

    @override
    def batches(self, indices: Sequence[Integers], augment: int | None = None) -> Iterator[tuple[Batch, Tensor]]:
        """Yield batches without modality values; nothing is augmented."""
        like = self.model.like
        for index_B in indices:
            batch = self.data.without_values(index_B)
            presence_Bm = self.data.cohort.presence_Nm[index_B]
            parts = []
            for i, name in enumerate(self.model.counts):
                tokens_PlD = self._tokens[name]
                assert tokens_PlD is not None
                row_P = torch.from_numpy(self._row_Nm[index_B[presence_Bm[:, i]], i])
                parts.append(tokens_PlD[row_P].to(like.device, like.dtype, non_blocking=True))
            alone_NRD = self._alone_NRD
            rows_B = torch.from_numpy(index_B).to(like.device)
            alone_BRD = None if alone_NRD is None else alone_NRD[rows_B].to(like.dtype)
            yield batch, self.model.with_alone(side_by_side(parts, batch.presence_Bm), alone_BRD)
