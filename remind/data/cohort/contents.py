"""The patients' data of one modality, in memory or as files that are read when they are needed.

Every kind of modality has a class of its own (`remind.data.cohort.kinds`). Letters: N patients, O entries of all
patients together. Equal contents compare equal.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from remind.data.files.stamp import stamp
from remind.former_names import moved

__getattr__ = moved(
    __name__,
    {
        "remind.data.cohort.kinds.table": "Table",
        "remind.data.cohort.kinds.series": "Series",
        "remind.data.cohort.kinds.pictures": "Files Reading",
        "remind.data.cohort.kinds.text": "Texts",
        "remind.data.cohort.kinds.codes": "Codes",
    },
)

Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]


def positions(index: NDArray[Any]) -> Integers:
    """Convert `index` to positions; a boolean array is a mask."""
    found = np.flatnonzero(index) if index.dtype == np.bool_ else index
    return found.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Contents(ABC):
    """The data of one modality for N patients: the operations that every kind of modality supports."""

    @abstractmethod
    def take(self, index: NDArray[Any]) -> Self:
        """Select the patients at the positions (or under the mask) `index`, in that order."""

    @abstractmethod
    def hide(self, hidden_N: Mask) -> Self:
        """Remove the data of the patients in `hidden_N`. The patients stay."""

    @abstractmethod
    def present(self) -> Mask:
        """Return which patients have the modality, (N,)."""

    @abstractmethod
    def joined(self, others: Sequence[Self]) -> Self:
        """Concatenate these patients and those of `others`, in this order."""

    @abstractmethod
    def feed(self, sha: Any) -> None:
        """Feed everything that determines an encoder's input into a hash."""

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the contents.

        Equal contents have equal digests; a changed file changes the digest.
        """
        sha = hashlib.sha256(type(self).__name__.encode())
        self.feed(sha)
        return sha.hexdigest()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(_same(v, vars(other)[k]) for k, v in vars(self).items())

    __hash__ = None  # type: ignore[assignment]


def join(parts: Sequence[Contents]) -> Contents:
    """Concatenate the contents of several sites."""
    return parts[0].joined(parts[1:])


@dataclass(frozen=True, eq=False)
class OnePerPatient(Contents):
    """One thing per patient: the path of its file, the thing itself in memory, or None.

    Attributes
    ----------
    source_N
        Objects: ``Path``, ``str`` or an array, or ``None``.
    """

    source_N: NDArray[np.object_]

    @override
    def take(self, index: NDArray[Any]) -> Self:
        return replace(self, source_N=self.source_N[index])

    @override
    def hide(self, hidden_N: Mask) -> Self:
        source_N = self.source_N.copy()
        source_N[hidden_N] = None
        return replace(self, source_N=source_N)

    def present(self) -> Mask:
        """Return which patients have one, (N,)."""
        return np.array([source is not None for source in self.source_N], dtype=bool)

    @override
    def joined(self, others: Sequence[Self]) -> Self:
        return replace(self, source_N=np.concatenate([part.source_N for part in (self, *others)]))

    def feed(self, sha: Any) -> None:
        """Add the contents to a hash; of a file, its path and its `stamp`."""
        for source in self.source_N:
            sha.update(b"\1" if source is None else b"\2")
            if isinstance(source, Path):
                sha.update(f"{source}\0{stamp(source)}\0".encode(errors="surrogateescape"))
            elif isinstance(source, str):
                sha.update(source.encode() + b"\0")
            elif source is not None:
                sha.update(f"{source.shape}{source.dtype}".encode() + source.tobytes())

    def converted(self) -> str:
        """Return how this site converts its files, where sites may do so differently."""
        return ""


def ragged_take(offsets_N1: Integers, index: NDArray[Any]) -> tuple[Integers, Integers]:
    """Return the offsets of the chosen patients and the positions of their entries."""
    index = positions(index)
    count_N = np.diff(offsets_N1)[index]
    taken_N1 = np.concatenate([[0], np.cumsum(count_N)]).astype(np.int64)
    return taken_N1, np.repeat(offsets_N1[index] - taken_N1[:-1], count_N) + np.arange(taken_N1[-1])


def ragged_rows(offsets_N1: Integers, index_P: Integers) -> tuple[Integers, Integers]:
    """Return the patient, 0 … P − 1, and the position of every entry of the chosen patients."""
    offsets_P1, source_O = ragged_take(offsets_N1, index_P)
    return np.repeat(np.arange(len(index_P)), np.diff(offsets_P1)), source_O


def ragged_hide(offsets_N1: Integers, hidden_N: Mask) -> tuple[Integers, Mask]:
    """Return the offsets without the entries of hidden patients, and a mask of the entries that remain."""
    count_N = np.diff(offsets_N1)
    kept_N1 = np.concatenate([[0], np.cumsum(np.where(hidden_N, 0, count_N))]).astype(np.int64)
    return kept_N1, np.repeat(~hidden_N, count_N)


def ragged_join(offsets: Sequence[Integers]) -> Integers:
    """Return the offsets of concatenated patients."""
    count_N = np.concatenate([np.diff(one) for one in offsets])
    return np.concatenate([[0], np.cumsum(count_N)]).astype(np.int64)


def _same(a: Any, b: Any) -> bool:
    if not isinstance(a, np.ndarray):
        return bool(type(a) is type(b) and a == b)
    if a.dtype == object:
        return len(a) == len(b) and all(map(_same, a, b))
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
