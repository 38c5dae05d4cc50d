"""Features of a series that may leak the label: four per item. Letters: N patients, O observations."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.contents import Integers

MOST_ITEMS = 2000  # items that are examined: the most frequent ones


def features_of_items(
    items: Sequence[str], offsets_N1: Integers, item_O: Integers, value_O: NDArray[np.float32]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield name and values, (N,), NaN = missing, of each item's mean, last value, presence and number of values.

    Arrays are those of `series.Series`.
    """
    n = len(offsets_N1) - 1
    patient_O = np.repeat(np.arange(n), np.diff(offsets_N1))
    frequent = np.argsort(-np.bincount(item_O, minlength=len(items)), kind="stable")[:MOST_ITEMS]
    order_O = np.argsort(item_O, kind="stable")  # by item; the sort is stable, so patients and times stay in order
    starts = np.searchsorted(item_O[order_O], np.arange(len(items) + 1))
    for item in frequent.tolist():
        rows = order_O[starts[item] : starts[item + 1]]
        if not len(rows):
            continue
        count_N = np.bincount(patient_O[rows], minlength=n)
        last_N = np.full(n, np.nan)
        last_N[patient_O[rows]] = value_O[rows]
        with np.errstate(invalid="ignore"):
            mean_N = np.bincount(patient_O[rows], value_O[rows].astype(np.float64), n) / count_N
        name = repr(items[item])
        yield name, mean_N
        yield name, last_N
        yield f"whether {name} was measured", (count_N > 0).astype(np.float64)
        yield f"how often {name} was measured", count_N.astype(np.float64)
