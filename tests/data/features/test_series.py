"""The summary of a series equals a slow one, patient by patient and item by item."""

from typing import Any

import numpy as np

from remind.data.cohort.kinds.series import Series
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.features.series import STATISTICS, names, summary

SCHEMA = SeriesSchema(name="labs", items=("Na", "K", "pH"), horizon_hours=48.0)


def drawn(seed: int, patients: int = 12) -> Series:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, size=patients) * (rng.random(patients) > 0.3)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    total = int(offsets[-1])
    time = np.concatenate([np.sort(rng.integers(0, 48, size=n)) for n in counts]).astype(np.float32)
    return Series(offsets, time, rng.integers(0, 3, total), rng.normal(size=total).astype(np.float32))


def slowly(series: Series) -> np.ndarray:
    rows = []
    for start, end in zip(series.offsets_N1[:-1], series.offsets_N1[1:], strict=True):
        row = []
        for item in range(len(SCHEMA.items)):
            at = np.arange(start, end)[series.item_O[start:end] == item]
            t, x = series.time_O[at].astype(float), series.value_O[at].astype(float)
            if end == start:
                row += [np.nan] * 9
            elif len(at) == 0:
                row += [0.0] + [np.nan] * 8
            else:
                slope = np.polyfit(t, x, 1)[0] if len(set(t)) > 1 else np.nan
                row += [len(at), x[0], x[-1], x.min(), x.max(), x.mean(), x.std(), slope, 48 - t[-1]]
        rows.append(row)
    return np.array(rows)


def test_it_equals_the_slow_summary():
    for seed in range(5):
        series = drawn(seed)
        np.testing.assert_allclose(summary(series, SCHEMA), slowly(series), atol=1e-6)


def test_there_is_a_name_for_every_column():
    assert len(names(SCHEMA)) == len(set(names(SCHEMA))) == 3 * len(STATISTICS)
    assert names(SCHEMA)[1] == "labs: Na, first"


def test_nobody_at_all_has_no_summary():
    parts: list[Any] = [np.zeros(0, dtype=d) for d in (np.float32, np.int64, np.float32)]
    empty = Series(np.zeros(3, dtype=np.int64), *parts)
    assert np.isnan(summary(empty, SCHEMA)).all()
