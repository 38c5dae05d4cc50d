"""Converts a .csv or .parquet column of any type into one of the few types that the readers handle."""

from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class UnusableError(Exception):
    """A column does not hold single values. The error says what it holds and what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


def plain(column: Any) -> Any:
    """Convert an Arrow column to large_string, integer, float, boolean, decimal, date, time or duration, as one array.

    Raises
    ------
    UnusableError
        The column holds another type.
    """
    try:
        return _plain(pa.chunked_array([column]) if isinstance(column, pa.Array) else column)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, KeyError):
        raise UnusableError(f"holds values of type {column.type}, which cannot be read", "export it as text") from None


def _plain(column: Any) -> Any:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        uuid = kind.extension_name == "arrow.uuid"
        storage = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        return _uuids(storage) if uuid else _plain(storage)
    if pa.types.is_dictionary(kind):
        return _plain(pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], kind.value_type))
    if pa.types.is_run_end_encoded(kind):
        return _plain(pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], kind.value_type))
    if pa.types.is_nested(kind):
        raise UnusableError("holds lists or records, not single values", "use one column per value")
    if pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return _whole(column.cast(pa.large_string()))
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or _is_bytes(kind):
        try:
            return _whole(column.cast(pa.large_string()))
        except pa.ArrowException:
            raise UnusableError("holds bytes that are no text", "export it as text") from None
    if pa.types.is_float16(kind):
        return _whole(column.cast(pa.float32()))
    if pa.types.is_interval(kind):
        raise UnusableError("holds intervals of time", "export them as numbers")
    return _whole(column)


def inexact(array: Any) -> NDArray[np.bool_]:
    """Return which cells of a column of floats are too large for every whole number to have a float, (R,)."""
    if not pa.types.is_floating(array.type):
        return np.zeros(len(array), dtype=bool)
    values_R = array.to_numpy(zero_copy_only=False) if isinstance(array, pa.Array) else array.to_numpy()
    return np.asarray(np.isfinite(values_R) & (np.abs(values_R) >= 2.0 ** (np.finfo(values_R.dtype).nmant + 1)))


def is_text(array: Any) -> bool:
    """Return whether the cells are texts."""
    return bool(pa.types.is_large_string(array.type))


def is_temporal(array: Any) -> bool:
    """Return whether the cells are dates, times or durations."""
    return bool(pa.types.is_temporal(array.type))


def as_texts(array: Any) -> Any:
    """Convert a column of `plain` to texts. Cells with different values get different texts."""
    if is_temporal(array) or pa.types.is_decimal(array.type):
        texts = array.cast(pa.string())
        if pa.types.is_decimal(array.type):
            texts = pc.replace_substring_regex(texts, r"\.0+$", "")  # like a whole float in `id_text`
        return texts.cast(pa.large_string())
    return array


def shown(array: Any, row: int) -> str | None:
    """Format a cell for a message, shortened; None if it is empty or cannot be shown."""
    try:
        value = as_texts(plain(array))[row].as_py()
    except (UnusableError, pa.ArrowException, ValueError, OverflowError):
        return None
    if value is None:
        return None
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_fixed_size_binary(kind) or str(kind) == "binary_view")


def _uuids(storage: Any) -> Any:
    return pa.array([None if b is None else str(UUID(bytes=b)) for b in storage.to_pylist()], pa.large_string())


def _whole(column: Any) -> Any:
    """Combine the chunks of a chunked array into one array."""
    found = column.combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)
