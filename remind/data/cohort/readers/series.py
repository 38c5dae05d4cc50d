"""Series: one row per observation. Letters: R rows, N patients, O observations with a value."""

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.contents import Series
from remind.data.cohort.problems import Problem, listed
from remind.data.cohort.readers.wanted import Wanted, patient_rows
from remind.data.cohort.schema import SeriesSchema
from remind.data.cohort.sections import SeriesSection
from remind.data.cohort.tabular import Source
from remind.data.cohort.text import Names, declared_text

HOURS = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1.0, "day": 24.0}
CLOSE = 1 + 1e-6  # rounding to float32 may move a time this much beyond the horizon


def read_series(source: Source, wanted: Wanted[SeriesSection]) -> tuple[SeriesSchema, Series] | None:
    """Read a series. Rows with an empty value are not observations. Returns None as `read_table` does."""
    field, section, position = wanted.field, wanted.section, wanted.position
    patient_R = patient_rows(source, wanted)
    needed = {"time": section.time, "item": section.item, "value": section.value}
    lacking = [column for option, column in needed.items() if not source.has(column, f"{field}.{option}")]
    if lacking:
        return None
    value_R = source.numbers(section.value)
    given_R = ~np.isnan(value_R)
    item_R, items, excluded_R = _items(source, field, section, given_R)
    time_R = _hours(source, wanted, patient_R)
    _check_times(source, section, time_R, given_R)
    if patient_R is None or position is None:
        return None
    keep_R = given_R & (patient_R >= 0) & (item_R >= 0) & (time_R >= 0) & ~excluded_R
    if section.horizon is not None:
        keep_R &= time_R <= section.horizon * CLOSE
    patient_O, item_O, time_O = patient_R[keep_R], item_R[keep_R], time_R[keep_R].astype(np.float32)
    order_O = np.lexsort((item_O, time_O, patient_O))  # independent of the order of the rows in the file
    offsets_N1 = np.zeros(len(position) + 1, dtype=np.int64)
    np.cumsum(np.bincount(patient_O, minlength=len(position)), out=offsets_N1[1:])
    horizon = section.horizon or float(time_O.max(initial=0.0)) or 1.0
    schema = SeriesSchema(name=wanted.name, items=items, horizon_hours=horizon)
    value_O = value_R[keep_R].astype(np.float32)
    return schema, Series(offsets_N1, time_O[order_O], item_O[order_O], value_O[order_O])


def _hours(source: Source, wanted: Wanted[SeriesSection], patient_R: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Return the hours since the patient's start, (R,), NaN = empty."""
    section = wanted.section
    if section.start is None:
        remedy = (
            f'; or name with start = "…" in [{wanted.field}] the column of the patients file that holds '
            "each patient's start, and dates become hours since then"
        )
        return source.numbers(section.time, dates=remedy) * HOURS[section.time_unit or "hour"]
    seconds_R = source.seconds(section.time)
    start_N = wanted.starts.get(section.start)
    if start_N is None or patient_R is None:
        return np.zeros(len(source))  # the problem has been reported already
    start_R = np.append(start_N, np.nan)[patient_R]
    bad_R = ~np.isnan(seconds_R) & np.isnan(start_R) & (patient_R >= 0)
    if bad_R.any():
        remedy = f"fill in {section.start!r} of the patients file, or remove the rows"
        source.report("the patient has no start to count from", remedy, wanted.key, bad_R)
    return np.where(bad_R, 0.0, (seconds_R - start_R) / 3600)


def no_series(name: str, section: SeriesSection, n: int, problems: list[Problem]) -> tuple[SeriesSchema, Series]:
    """A series that none of the n patients of this site has: its declared schema."""
    items = tuple(declared_text(item) for item in section.items or ())
    nothing_O = np.empty(0, dtype=np.float32)
    data = Series(np.zeros(n + 1, dtype=np.int64), nothing_O, np.empty(0, dtype=np.int64), nothing_O)
    return SeriesSchema(name=name, items=items, horizon_hours=section.horizon or 1.0), data


def _items(
    source: Source, field: str, section: SeriesSection, given_R: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], tuple[str, ...], NDArray[np.bool_]]:
    """Return the index of each row's item, (R,), −1 = none; the items; and which rows are excluded."""
    codes_R, names = source.texts(section.item, Names((*(section.items or ()), *section.exclude)))
    out = {declared_text(item) for item in section.exclude}
    declared = section.items if section.items is not None else sorted(set(names) - out)
    items = tuple(declared_text(item) for item in declared)
    excluded_R = np.array([*(name in out for name in names), False])[codes_R]
    index = {item: i for i, item in enumerate(items)}
    item_R = np.array([*(index.get(name, -1) for name in names), -1], dtype=np.int64)[codes_R]
    if (empty_R := (codes_R < 0) & given_R).any():
        source.report(
            "no item",
            f"say what was measured (an item of this very name: declare it in {field}.items), or remove the row",
            section.item,
            empty_R,
        )
    unknown_R = (item_R < 0) & (codes_R >= 0) & ~excluded_R
    if unknown_R.any():
        strangers = listed(names[i] for i in np.unique(codes_R[unknown_R]))
        remedy = f"declare it in {field}.items, or leave it out with {field}.exclude"
        source.report(f"undeclared items: {strangers}", remedy, section.item, unknown_R)
    return item_R, items, excluded_R


def _check_times(
    source: Source, section: SeriesSection, time_R: NDArray[np.float64], given_R: NDArray[np.bool_]
) -> None:
    """Check the times in hours, (R,), of the rows that hold a value."""
    if (bad_R := given_R & np.isnan(time_R)).any():
        source.report("no time", "fill it in, or remove the row", section.time, bad_R)
    if (bad_R := given_R & (time_R < 0)).any():
        source.report(
            "negative time", "count time from the patient's start (admission), or remove the row", section.time, bad_R
        )
    if (
        section.horizon is not None
        and not section.clip
        and (bad_R := given_R & (time_R > section.horizon * CLOSE)).any()
    ):
        remedy = "set clip = true to leave later observations out, or a larger horizon; check time_unit"
        source.report(f"after the horizon of {section.horizon:g} hours", remedy, section.time, bad_R)
