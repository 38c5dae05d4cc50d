"""Batches: a site's patients as tensors. For each modality, a batch holds only the patients who have that modality.

Letters: B patients in the batch, P of them with the modality, m modalities, F columns, O observations (or codes).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remind.data.batches.lazy import LazyModalities, Loader, Request
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.contents import Codes, Series, Table, ragged_take
from remind.data.cohort.schema import CodesSchema

Integers = NDArray[np.int64]


class _Ragged:
    """Base class of the modalities that have several entries per patient."""

    def to(self, device: torch.device | str) -> Self:
        """Copy the tensors to `device`."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return replace(self, **{k: v.to(device) for k, v in tensors.items() if isinstance(v, Tensor)})  # type: ignore[type-var]


@dataclass(frozen=True)
class SeriesBatch(_Ragged):
    """The observations of P patients, concatenated.

    Attributes
    ----------
    time_O
        Hours.
    item_O
        int64, index into the schema's items.
    value_O
        As in the file, not standardised.
    patient_O
        int64, position of the patient among the P, ascending.
    patients
        The number P.
    """

    time_O: Tensor
    item_O: Tensor
    value_O: Tensor
    patient_O: Tensor
    patients: int


@dataclass(frozen=True)
class CodesBatch(_Ragged):
    """The codes of P patients, concatenated.

    Attributes
    ----------
    code_O
        int64: index in the schema's vocabulary; if there is no vocabulary, a 63-bit hash of the code's text.
    patient_O, patients
        As in `SeriesBatch`.
    """

    code_O: Tensor
    patient_O: Tensor
    patients: int


@dataclass(frozen=True)
class TextBatch:
    """The notes of P patients."""

    texts: tuple[str, ...]

    def to(self, device: torch.device | str) -> "TextBatch":
        """Return the batch itself: text has no device."""
        return self


Inputs = Tensor | SeriesBatch | CodesBatch | TextBatch


@dataclass(frozen=True)
class Batch:
    """B patients.

    Attributes
    ----------
    index_B
        int64, positions in the cohort.
    group_B, label_B
        int64.
    presence_Bm
        bool.
    inputs
        Per modality, the data of the P patients who have it, in order. A table gives values (P, F), NaN = missing;
        an image, volume or video gives pixels (P, channels, …) in [0, 1]; other kinds give the batch class of their
        name.
    """

    index_B: Tensor
    group_B: Tensor
    presence_Bm: Tensor
    label_B: Tensor
    inputs: dict[str, Inputs]


class SiteData:
    """A site's cohort as a source of batches. Small data is kept on the device; pictures stay in their files.

    Parameters
    ----------
    cohort
        The N patients.
    dtype
        Floating-point type of values, times and pixels.
    device
        Device on which batches are created.
    workers
        Number of processes that read and decode pictures ahead of time.
    """

    def __init__(
        self,
        cohort: Cohort,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        workers: int = 0,
    ) -> None:
        self.cohort, self.dtype, self.device = cohort, dtype, torch.device(device)
        self._group_N, self._presence_Nm = self._tensor(cohort.groups_N), self._tensor(cohort.presence_Nm)
        self._label_N = self._tensor(cohort.label_N)
        modalities = cohort.modalities
        self._tables = {n: self._tensor(d.values_NF).to(dtype) for n, d in modalities.items() if isinstance(d, Table)}
        self._series = {n: d for n, d in modalities.items() if isinstance(d, Series)}
        self._codes = {
            s.name: _numbered(s, d)
            for s in cohort.schema.modalities
            if isinstance(d := cohort.modalities[s.name], Codes) and isinstance(s, CodesSchema)
        }
        lazy = LazyModalities(cohort)
        self.lazy = bool(lazy.contents)
        self._load = Loader(lazy, workers if self.lazy else 0, pin=self.lazy and self.device.type == "cuda")

    def __len__(self) -> int:
        return len(self.cohort)

    def batch(self, index_B: Integers) -> Batch:
        """Return the patients at positions `index_B`, in that order. A position may occur more than once."""
        return next(self.batches([Request(np.asarray(index_B, dtype=np.int64))]))

    def batches(self, requests: Sequence[Request]) -> Iterator[Batch]:
        """Yield one batch per request, in order.

        Workers read the pictures of later batches while the caller uses earlier ones.

        Raises
        ------
        UserError
            A file can no longer be read.
        """
        for request, loaded in zip(requests, self._load(requests), strict=True):
            inputs = {
                name: self._moved(loaded[name]) if name in loaded else self._inputs(name, i, request.index_B)
                for i, name in enumerate(self.cohort.schema.names)
                if request.wants(name)
            }
            yield replace(self.without_values(request.index_B), inputs=inputs)

    def without_values(self, index_B: Integers) -> Batch:
        """Return a batch with the groups and labels of the patients at these positions, but with no modality data."""
        rows = torch.as_tensor(index_B, device=self.device)
        return Batch(rows, self._group_N[rows], self._presence_Nm[rows], self._label_N[rows], {})

    @cached_property
    def digests(self) -> dict[str, str]:
        """Return a digest of each modality's data. It is computed only once, because it has to look at every file."""
        return {name: contents.digest() for name, contents in self.cohort.modalities.items()}

    def _moved(self, loaded: Tensor | tuple[str, ...]) -> Inputs:
        if isinstance(loaded, tuple):
            return TextBatch(loaded)
        return loaded.to(self.device, self.dtype, non_blocking=True)

    def _inputs(self, name: str, i: int, index_B: Integers) -> Inputs:
        """Return the entries of modality i that are held in memory."""
        index_P = index_B[self.cohort.presence_Nm[index_B, i]]
        if name in self._tables:
            return self._tables[name][torch.as_tensor(index_P, device=self.device)]
        if name in self._series:
            series = self._series[name]
            patient_O, source_O = _entries(series.offsets_N1, index_P)
            return SeriesBatch(
                time_O=self._tensor(series.time_O[source_O]).to(self.dtype),
                item_O=self._tensor(series.item_O[source_O]),
                value_O=self._tensor(series.value_O[source_O]).to(self.dtype),
                patient_O=self._tensor(patient_O),
                patients=len(index_P),
            )
        codes = self._codes[name]
        patient_O, source_O = _entries(codes.offsets_N1, index_P)
        return CodesBatch(self._tensor(codes.code_O[source_O]), self._tensor(patient_O), len(index_P))

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.as_tensor(array, device=self.device)


def _entries(offsets_N1: Integers, index_P: Integers) -> tuple[Integers, Integers]:
    """Return the patient and the position of every entry of the chosen patients."""
    offsets_P1, source_O = ragged_take(offsets_N1, index_P)
    return np.repeat(np.arange(len(index_P)), np.diff(offsets_P1)), source_O


def _numbered(schema: CodesSchema, codes: Codes) -> Codes:
    """Convert codes to the numbers that encoders use: vocabulary indices, or hashes of the code and of its prefixes."""
    if schema.vocabulary:
        place = {code: i for i, code in enumerate(schema.vocabulary)}
        number = np.array([place[name] for name in codes.names] or [0], dtype=np.int64)
        return replace(codes, code_O=number[codes.code_O])
    kinds = 1 + len(schema.prefixes)
    meant = [[name, *(f"{name[:n]}*" for n in schema.prefixes)] for name in codes.names]
    number_XK = np.array([[_hash(text) for text in texts] for texts in meant] or [[0] * kinds])
    patient_O = np.repeat(np.arange(len(codes.offsets_N1) - 1), np.diff(codes.offsets_N1))
    pair_O2 = np.stack([np.repeat(patient_O, kinds), number_XK[codes.code_O].reshape(-1)], axis=1)
    pair_O2 = np.unique(pair_O2, axis=0)
    offsets_N1 = np.zeros_like(codes.offsets_N1)
    np.cumsum(np.bincount(pair_O2[:, 0], minlength=len(offsets_N1) - 1), out=offsets_N1[1:])
    return Codes(offsets_N1, pair_O2[:, 1], codes.names)


def _hash(text: str) -> int:
    """Hash a text to 63 bits. The hash is the same at every site."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
