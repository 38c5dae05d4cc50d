"""Data that is not kept in memory: one file per patient, read and decoded when a batch asks for it.

Letters: B patients in the batch, P of them with the modality.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from remind.data.batches.augment import augment, augment_mask
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.contents import OnePerPatient
from remind.data.cohort.file_kind import FileKind
from remind.data.cohort.kind import kind_of
from remind.data.cohort.masks import Masks
from remind.data.files import Unreadable
from remind.errors import UserError
from remind.seeds import derive

Loaded = dict[str, Tensor | tuple[str, ...]]
MASK = " mask"  # in `Loaded`, the targets (B, V); no modality has such a name


@dataclass(frozen=True)
class Request:
    """A request for one batch.

    Attributes
    ----------
    index_B
        Positions in the cohort.
    seed
        Seed of the augmentation of pictures; None: no augmentation.
    only
        The requested modalities; None: all.
    """

    index_B: NDArray[np.int64]
    seed: int | None = None
    only: tuple[str, ...] | None = None

    def wants(self, name: str) -> bool:
        """Return whether the request includes this modality."""
        return self.only is None or name in self.only


@dataclass(frozen=True)
class _Refused:
    """Why a batch could not be read.

    A worker process returns this, because its exception would arrive as a traceback.
    """

    reason: str


class LazyModalities(Dataset[Loaded | _Refused]):
    """The modalities of a cohort that are read from files, or whose pixels must be computed, and the masks.

    If the target is a mask, a patient's pictures and mask are all moved alike in augmentation, so that they stay the
    same place of the body, in every sequence and for every combination of them.
    """

    def __init__(self, cohort: Cohort) -> None:
        self.patient_id_N = cohort.patient_id_N
        self.schemas = {m.name: m for m in cohort.schema.modalities}
        self.contents = {name: one for name, one in cohort.modalities.items() if isinstance(one, OnePerPatient)}
        self.masks = cohort.masks if isinstance(cohort.masks, Masks) else None

    def __getitem__(self, request: Request) -> Loaded | _Refused:
        try:
            loaded = {name: self._load(name, request) for name in self.contents if request.wants(name)}
            return loaded if self.masks is None else loaded | {MASK: self._masks(self.masks, request)}
        except UserError as error:
            return _Refused(str(error))

    def _load(self, name: str, request: Request) -> Tensor | tuple[str, ...]:
        """Load the arrays (P, …), or the P texts, of the patients who have the modality."""
        contents, kind, shape = self.contents[name], self._kind(name), self._kind(name).shape(self.schemas[name])
        places = [place for place, i in enumerate(request.index_B) if contents.source_N[i] is not None]
        loaded = [self._one(name, int(request.index_B[place])) for place in places]
        if shape is None:
            return tuple(str(one) for one in loaded)
        if not loaded:
            return torch.zeros(0, *shape)
        arrays = torch.from_numpy(np.stack([np.asarray(one) for one in loaded]))
        if request.seed is None or not kind.pictures:
            return arrays
        if self.masks is None:
            seeds = [derive(request.seed, name, place) for place in range(len(places))]
        else:
            seeds = [derive(request.seed, MASK, place) for place in places]
        return torch.stack([augment(picture, seed) for picture, seed in zip(arrays, seeds, strict=True)])

    def _masks(self, masks: Masks, request: Request) -> Tensor:
        """Load the numbers (B, V) of the voxels of the patients' masks."""
        found = []
        for place, i in enumerate(request.index_B.tolist()):
            try:
                mask = torch.from_numpy(masks.load(i))
            except Unreadable as error:
                who = f"mask of patient {self.patient_id_N[i]}"
                raise UserError(
                    f"{who}: {error.what}; {error.remedy}; the file has changed since it was checked"
                ) from None
            found.append(mask if request.seed is None else augment_mask(mask, derive(request.seed, MASK, place)))
        return torch.stack(found).flatten(1) if found else torch.zeros(0, 0, dtype=torch.uint8)

    def _kind(self, name: str) -> FileKind[Any, Any, Any]:
        kind = kind_of(self.schemas[name])
        assert isinstance(kind, FileKind)
        return kind

    def _one(self, name: str, i: int) -> NDArray[np.float32] | str:
        source = self.contents[name].source_N[i]
        try:
            return self._kind(name).load(self.schemas[name], self.contents[name], source)
        except Unreadable as error:
            file = source.name if isinstance(source, Path) else "in memory"
            who = f"modality {name} of patient {self.patient_id_N[i]} ({file})"
            raise UserError(f"{who}: {error.what}; {error.remedy}; the file has changed since it was checked") from None


def _as_it_is(loaded: Any) -> Any:
    """Return the batch unchanged, in place of torch's collation, which would turn tuples into lists."""
    return loaded


class _Requests(Sampler[Request]):
    """The requests of one pass. They are replaced between passes, so that worker processes stay alive."""

    def __init__(self) -> None:
        self.list: Sequence[Request] = ()

    def __iter__(self) -> Iterator[Request]:
        return iter(self.list)

    def __len__(self) -> int:
        return len(self.list)


class Loader:
    """Loads batches of lazy modalities in the order of the requests, for any number of worker processes.

    Parameters
    ----------
    lazy
        The modalities to read.
    workers
        Number of processes that read and decode ahead; 0: this process reads when a batch is requested.
    pin
        Whether tensors are in page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(self, lazy: LazyModalities, workers: int, pin: bool) -> None:
        self._empty, self._lazy = not lazy.contents, lazy
        self._requests = _Requests()
        self._loader: DataLoader[Loaded | _Refused] | None = None
        if self._empty or not (workers or pin):
            return  # this process reads, and torch's loader has nothing to do
        self._loader = DataLoader(
            lazy,
            batch_size=None,
            sampler=self._requests,
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            multiprocessing_context="forkserver" if workers else None,
            generator=torch.Generator(),  # it draws a seed for its workers, and must not use the run's random numbers
            pin_memory=pin,
        )

    def __call__(self, requests: Sequence[Request]) -> Iterator[Loaded]:
        """Yield the batches of these requests.

        Raises
        ------
        UserError
            A file can no longer be read.
        """
        if self._empty:
            yield from ({} for _ in requests)
            return
        self._requests.list = requests
        for loaded in map(self._lazy.__getitem__, requests) if self._loader is None else self._loader:
            if isinstance(loaded, _Refused):
                raise UserError(loaded.reason)
            yield loaded
