"""Store early answers on disk until their turn, so that memory does not grow with the number of sites."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from numpy.typing import NDArray

LARGE = 1 << 24  # bytes of tensors that wait on disk and not in memory


def kept(buffer: NDArray[np.uint8], used_now: bool = False) -> Callable[[], NDArray[np.uint8]]:
    """Return what returns a buffer again, once: a large one waits in an unnamed file, unless it is used at once."""
    if used_now or buffer.nbytes < LARGE:
        return lambda: buffer
    file = tempfile.TemporaryFile(prefix="remind-answer-")  # noqa: SIM115 - closed when it is read, or forgotten
    file.write(buffer.data)

    def read() -> NDArray[np.uint8]:
        with file:
            file.seek(0)
            return np.frombuffer(file.read(), np.uint8)

    return read


@dataclass(frozen=True)
class _Place:
    """The position of an array's bytes in the file, and the array without its bytes."""

    start: int
    length: int
    empty: Array


class Shelf:
    """Stores records by key.

    Their arrays are in one unnamed file, which `close` deletes; the rest is small and stays in memory.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="remind-answers-")  # noqa: SIM115 - closed by `close`
        self._records: dict[str, tuple[RecordDict, dict[str, dict[str, _Place]]]] = {}

    def close(self) -> None:
        """Delete everything."""
        self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def put(self, key: str, record: RecordDict) -> None:
        """Store a record."""
        arrays = {
            name: {k: self._write(a) for k, a in r.items()} for name, r in record.items() if isinstance(r, ArrayRecord)
        }
        rest = RecordDict({name: part for name, part in record.items() if name not in arrays})
        self._records[key] = (rest, arrays)

    def take(self, key: str) -> RecordDict:
        """Return a stored record and remove it from the shelf."""
        record, arrays = self._records.pop(key)
        for name, places in arrays.items():
            record[name] = ArrayRecord({k: self._read(place) for k, place in places.items()})
        return record

    def _write(self, array: Array) -> _Place:
        start = self._file.seek(0, 2)
        self._file.write(array.data)
        return _Place(start, len(array.data), replace(array, data=b""))

    def _read(self, place: _Place) -> Array:
        self._file.seek(place.start)
        return replace(place.empty, data=self._file.read(place.length))
