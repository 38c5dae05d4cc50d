"""Batches: a site's patients as tensors. For each modality, a batch holds only the patients who have that modality.

Letters: B patients in the batch, P of them with the modality, m modalities, F columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remind.data.batches.lazy import MASK, LazyModalities, Loader, Request
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.file_kind import FileKind
from remind.data.cohort.kind import kind_of
from remind.former_names import moved

Integers = NDArray[np.int64]


__getattr__ = moved(
    __name__,
    {
        "remind.data.cohort.kinds.series": "SeriesBatch",
        "remind.data.cohort.kinds.text": "TextBatch",
        "remind.data.cohort.kinds.codes": "CodesBatch",
    },
)


@dataclass(frozen=True)
class Batch:
    """B patients.

    Attributes
    ----------
    index_B
        int64, positions in the cohort.
    group_B, label_B
        int64; `label_B` is the stratum (`Cohort.label_N`).
    presence_Bm
        bool.
    inputs
        Per modality, what its encoder receives of the P patients who have it, in order. A table gives values (P, F),
        NaN = missing; an image, volume or video gives pixels (P, channels, …) in [0, 1]; other kinds give the batch
        class of their name.
    target_BT
        Targets in float64, whose precision does not depend on the model's; None: `label_B` tells all. Of a mask the
        numbers of its voxels (B, V), uint8.
    """

    index_B: Tensor
    group_B: Tensor
    presence_Bm: Tensor
    label_B: Tensor
    inputs: dict[str, Any]
    target_BT: Tensor | None = None

    @property
    def target(self) -> Tensor:
        """What the loss compares with: the target (B, T), or the classes (B,) where these are all."""
        return self.label_B if self.target_BT is None else self.target_BT


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
        self._target_NT = None if cohort.target_NT is None else self._tensor(cohort.target_NT)
        self._kinds = {s.name: kind_of(s) for s in cohort.schema.modalities}
        self._in_memory = {
            s.name: self._kinds[s.name].inputs(s, cohort.modalities[s.name], self._values)
            for s in cohort.schema.modalities
            if not isinstance(self._kinds[s.name], FileKind)
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
                name: self._moved(name, loaded[name]) if name in loaded else self._inputs(name, i, request.index_B)
                for i, name in enumerate(self.cohort.schema.names)
                if request.wants(name)
            }
            batch = replace(self.without_values(request.index_B), inputs=inputs)
            mask = loaded.get(MASK)
            yield replace(batch, target_BT=mask.to(self.device)) if isinstance(mask, Tensor) else batch

    def without_values(self, index_B: Integers) -> Batch:
        """Return a batch with the groups and labels of the patients at these positions, but with no modality data."""
        rows = torch.as_tensor(index_B, device=self.device)
        target_BT = None if self._target_NT is None else self._target_NT[rows]
        return Batch(rows, self._group_N[rows], self._presence_Nm[rows], self._label_N[rows], {}, target_BT)

    @cached_property
    def digests(self) -> dict[str, str]:
        """Return a digest of each modality's data. It is computed only once, because it has to look at every file."""
        return {name: contents.digest() for name, contents in self.cohort.modalities.items()}

    def _moved(self, name: str, loaded: Tensor | tuple[str, ...]) -> Any:
        if isinstance(loaded, Tensor):
            loaded = loaded.to(self.device, self.dtype, non_blocking=True)
        kind = self._kinds[name]
        assert isinstance(kind, FileKind)
        return kind.gathered(loaded)

    def _inputs(self, name: str, i: int, index_B: Integers) -> Any:
        """Return the entries of modality i, which is held in memory."""
        return self._in_memory[name](index_B[self.cohort.presence_Nm[index_B, i]])

    def _values(self, array: NDArray[Any]) -> Tensor:
        tensor = self._tensor(array)
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.as_tensor(array, device=self.device)
