"""Converts columns of dates and times to seconds. Letters: R rows."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from remind.data.cohort import cells
from remind.data.cohort.text import is_missing


def seconds(array: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return seconds since 1970, (R,), NaN = empty or invalid, and which are invalid, for a column of `cells.plain`.

    Only ISO 8601 is accepted, because 03/04 may be in March or in April. Times with a zone are converted to UTC.
    """
    good_R = np.zeros(len(array), dtype=bool)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _of_moments(array), good_R
    if not cells.is_text(array):
        return np.full(len(array), np.nan), array.is_valid().to_numpy(zero_copy_only=False)
    try:
        return _of_moments(pc.cast(array, pa.timestamp("us"))), good_R
    except pa.ArrowException:  # Arrow could not parse some cells: parse each distinct text
        encoded = array.dictionary_encode()
        parsed = [_parsed(text) for text in encoded.dictionary.to_pylist()]
        value = np.array([np.nan if v is None else v for v in parsed] + [np.nan])
        wrong = np.array([v is None for v in parsed] + [False])
        code_R = encoded.indices.cast(pa.int64()).fill_null(len(parsed)).to_numpy(zero_copy_only=False)
        return value[code_R], wrong[code_R]


def _of_moments(array: Any) -> NDArray[np.float64]:
    zone = array.type.tz if pa.types.is_timestamp(array.type) else None
    micro = pc.cast(pc.cast(array, pa.timestamp("us", zone), safe=False), pa.int64())
    numbers = pc.fill_null(pc.cast(micro, pa.float64(), safe=False), float("nan"))
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64) / 1e6


def _parsed(text: str) -> float | None:
    """Convert one text to seconds; NaN if it is empty, None if it is not a date."""
    if is_missing(text):
        return float("nan")
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
