"""The patients' data of one modality, in memory or as files that are read when they are needed.

Letters: N patients, F columns, O observations (or codes) of all patients together. Equal contents compare equal.
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
class Table(Contents):
    """A table: `values_NF` float32, NaN = missing; categorical columns hold the index of their level."""

    values_NF: NDArray[np.float32]

    @override
    def take(self, index: NDArray[Any]) -> "Table":
        return Table(self.values_NF[index])

    @override
    def hide(self, hidden_N: Mask) -> "Table":
        return Table(np.where(hidden_N[:, None], np.float32(np.nan), self.values_NF))

    def present(self) -> Mask:
        """Return which patients have a value, (N,)."""
        return np.asarray((~np.isnan(self.values_NF)).any(axis=1))

    @override
    def joined(self, others: Sequence["Table"]) -> "Table":
        return Table(np.concatenate([part.values_NF for part in (self, *others)]))

    @override
    def feed(self, sha: Any) -> None:
        sha.update(np.ascontiguousarray(self.values_NF))


@dataclass(frozen=True, eq=False)
class Series(Contents):
    """Observations: patient i has ``offsets_N1[i] : offsets_N1[i + 1]``, sorted by time, then item.

    Attributes
    ----------
    offsets_N1
        int64, N + 1 entries from 0 to O.
    time_O
        float32, hours.
    item_O
        int64, index into the schema's items.
    value_O
        float32, never NaN.
    """

    offsets_N1: Integers
    time_O: NDArray[np.float32]
    item_O: Integers
    value_O: NDArray[np.float32]

    @override
    def take(self, index: NDArray[Any]) -> "Series":
        offsets_N1, source_O = ragged_take(self.offsets_N1, index)
        return Series(offsets_N1, self.time_O[source_O], self.item_O[source_O], self.value_O[source_O])

    @override
    def hide(self, hidden_N: Mask) -> "Series":
        offsets_N1, keep_O = _ragged_hide(self.offsets_N1, hidden_N)
        return Series(offsets_N1, self.time_O[keep_O], self.item_O[keep_O], self.value_O[keep_O])

    def present(self) -> Mask:
        """Return which patients have an observation, (N,)."""
        return np.diff(self.offsets_N1) > 0

    @override
    def joined(self, others: Sequence["Series"]) -> "Series":
        parts = (self, *others)
        return Series(
            _ragged_join([part.offsets_N1 for part in parts]),
            np.concatenate([part.time_O for part in parts]),
            np.concatenate([part.item_O for part in parts]),
            np.concatenate([part.value_O for part in parts]),
        )

    @override
    def feed(self, sha: Any) -> None:
        for array in vars(self).values():
            sha.update(np.ascontiguousarray(array))


@dataclass(frozen=True, eq=False)
class Codes(Contents):
    """Codes: patient i has ``offsets_N1[i] : offsets_N1[i + 1]``, each code once, sorted by name.

    Attributes
    ----------
    code_O
        int64, index into `names`.
    names
        The codes as text.
    """

    offsets_N1: Integers
    code_O: Integers
    names: tuple[str, ...]

    @override
    def take(self, index: NDArray[Any]) -> "Codes":
        offsets_N1, source_O = ragged_take(self.offsets_N1, index)
        return Codes(offsets_N1, self.code_O[source_O], self.names)

    @override
    def hide(self, hidden_N: Mask) -> "Codes":
        offsets_N1, keep_O = _ragged_hide(self.offsets_N1, hidden_N)
        return Codes(offsets_N1, self.code_O[keep_O], self.names)

    def present(self) -> Mask:
        """Return which patients have a code, (N,)."""
        return np.diff(self.offsets_N1) > 0

    def joined(self, others: Sequence["Codes"]) -> "Codes":
        """See `Contents`; a part may have codes that the others do not have."""
        parts = (self, *others)
        names = tuple(dict.fromkeys(name for part in parts for name in part.names))
        index = {name: i for i, name in enumerate(names)}
        codes = [np.array([index[n] for n in part.names] or [0], dtype=np.int64)[part.code_O] for part in parts]
        return Codes(_ragged_join([part.offsets_N1 for part in parts]), np.concatenate(codes), names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codes) and self.digest() == other.digest()  # names that no patient has do not count

    __hash__ = None

    @override
    def feed(self, sha: Any) -> None:
        sha.update(np.ascontiguousarray(self.offsets_N1))
        sha.update("\0".join(self.names[i] for i in self.code_O.tolist()).encode())


@dataclass(frozen=True)
class Reading:
    """How a site converts its files to pixels: the window (centre, width) of grey values, and whether to resize.

    Without a window, the file's own window applies. Without resizing, a picture of another size is an error.
    """

    window: tuple[float, float] | None = None
    resize: bool = True


@dataclass(frozen=True, eq=False)
class Texts(Contents):
    """One note per patient: the text itself, the path of a file that holds the text, or None.

    Attributes
    ----------
    source_N
        Objects: ``str``, ``Path`` or ``None``.
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
        """Return which patients have a note, (N,)."""
        return np.array([source is not None for source in self.source_N], dtype=bool)

    @override
    def joined(self, others: Sequence[Self]) -> Self:
        return replace(self, source_N=np.concatenate([part.source_N for part in (self, *others)]))

    def feed(self, sha: Any) -> None:
        """See `Contents`; for a file, its path and its `stamp` are hashed."""
        for source in self.source_N:
            sha.update(b"\1" if source is None else b"\2")
            if isinstance(source, Path):
                sha.update(f"{source}\0{stamp(source)}\0".encode(errors="surrogateescape"))
            elif isinstance(source, str):
                sha.update(source.encode() + b"\0")
            elif source is not None:
                sha.update(f"{source.shape}{source.dtype}".encode() + source.tobytes())


@dataclass(frozen=True, eq=False)
class Files(Texts):
    """One image, volume or video per patient: the path of its file, its pixels, or None.

    Attributes
    ----------
    source_N
        Objects: ``Path``, an array (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3), or ``None``.
    reading
        How this site converts files to pixels.
    """

    reading: Reading = Reading()

    def joined(self, others: Sequence[Self]) -> Self:
        """See `Contents`.

        Raises
        ------
        ValueError
            The sites convert their files to pixels in different ways, so the pixels are not comparable.
        """
        if any(part.reading != self.reading for part in others):
            raise ValueError("files that are read in different ways cannot be joined")
        return super().joined(others)

    @override
    def feed(self, sha: Any) -> None:
        sha.update(repr(self.reading).encode())
        super().feed(sha)


def ragged_take(offsets_N1: Integers, index: NDArray[Any]) -> tuple[Integers, Integers]:
    """Return the offsets of the chosen patients and the positions of their entries."""
    index = positions(index)
    count_N = np.diff(offsets_N1)[index]
    taken_N1 = np.concatenate([[0], np.cumsum(count_N)]).astype(np.int64)
    return taken_N1, np.repeat(offsets_N1[index] - taken_N1[:-1], count_N) + np.arange(taken_N1[-1])


def _ragged_hide(offsets_N1: Integers, hidden_N: Mask) -> tuple[Integers, Mask]:
    """Return the offsets without the entries of hidden patients, and a mask of the entries that remain."""
    count_N = np.diff(offsets_N1)
    kept_N1 = np.concatenate([[0], np.cumsum(np.where(hidden_N, 0, count_N))]).astype(np.int64)
    return kept_N1, np.repeat(~hidden_N, count_N)


def _ragged_join(offsets: Sequence[Integers]) -> Integers:
    count_N = np.concatenate([np.diff(one) for one in offsets])
    return np.concatenate([[0], np.cumsum(count_N)]).astype(np.int64)


def _same(a: Any, b: Any) -> bool:
    if not isinstance(a, np.ndarray):
        return bool(type(a) is type(b) and a == b)
    if a.dtype == object:
        return len(a) == len(b) and all(map(_same, a, b))
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
