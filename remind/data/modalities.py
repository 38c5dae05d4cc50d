"""One reader per modality kind: a file's R rows → its schema and its arrays for the cohort's N patients."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort import Series, Table
from remind.data.declaration import CohortFile, SeriesSection, TableSection
from remind.data.problems import Problem, counted, listed, suggest
from remind.data.schema import SeriesSchema, TableSchema
from remind.data.tabular import Source
from remind.data.text import id_text, level_text

HOURS = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1.0, "day": 24.0}
CLOSE = 1 + 1e-6  # a float32 time may lie this much beyond the horizon it was rounded to


def read_table(
    source: Source, name: str, section: TableSection, cohort: CohortFile, position: Mapping[str, int] | None
) -> tuple[TableSchema, Table] | None:
    """A table modality. `position`: row of each patient in the patients file; None: not known, ids are not checked."""
    field, key = f"modalities.{name}", section.id or cohort.patients.id
    patient_R = _patients(source, key, f"{field}.id", position)
    columns = _columns(source, field, section, key)
    schema = _table_schema(name, section, columns)
    _check_fields(source.problems, field, schema, section.columns or columns)
    values_RF = np.full((len(source), len(columns)), np.nan, dtype=np.float32)
    for i, column in enumerate(columns):
        levels = schema.categories.get(column)
        if levels is None:
            values_RF[:, i] = source.numbers(column, f"; or declare the levels in {field}.categories")
        else:
            values_RF[:, i] = _levels(source, field, column, levels)
    if patient_R is None or position is None:
        return None
    known_R = patient_R >= 0
    again_R = np.ones(len(source), dtype=bool)
    again_R[np.unique(patient_R, return_index=True)[1]] = False
    if (again_R & known_R).any():
        source.report("patient has more than one row", "keep one row each", key, again_R & known_R)
    values_NF = np.full((len(position), len(columns)), np.nan, dtype=np.float32)
    values_NF[patient_R[known_R]] = values_RF[known_R]
    return schema, Table(values_NF)


def read_series(
    source: Source, name: str, section: SeriesSection, cohort: CohortFile, position: Mapping[str, int] | None
) -> tuple[SeriesSchema, Series] | None:
    """A series modality; `position` as in `read_table`. Rows with an empty value are no observations."""
    field, key = f"modalities.{name}", section.id or cohort.patients.id
    patient_R = _patients(source, key, f"{field}.id", position)
    needed = {"time": section.time, "item": section.item, "value": section.value}
    lacking = [column for option, column in needed.items() if not source.has(column, f"{field}.{option}")]
    if lacking:
        return None
    value_R = source.numbers(section.value)
    given_R = ~np.isnan(value_R)
    item_R, items, excluded_R = _items(source, field, section, given_R)
    time_R = source.numbers(section.time) * HOURS[section.time_unit]
    _check_times(source, section, time_R, given_R)
    if patient_R is None or position is None:
        return None
    keep_R = given_R & (patient_R >= 0) & (item_R >= 0) & (time_R >= 0) & ~excluded_R
    if section.horizon is not None:
        keep_R &= time_R <= section.horizon * CLOSE
    patient_O, item_O, time_O = patient_R[keep_R], item_R[keep_R], time_R[keep_R].astype(np.float32)
    order_O = np.lexsort((item_O, time_O, patient_O))  # whatever the order of the file's rows
    offsets_N1 = np.zeros(len(position) + 1, dtype=np.int64)
    np.cumsum(np.bincount(patient_O, minlength=len(position)), out=offsets_N1[1:])
    horizon = section.horizon or float(time_O.max(initial=0.0)) or 1.0
    schema = SeriesSchema(name=name, items=items, horizon_hours=horizon)
    value_O = value_R[keep_R].astype(np.float32)
    return schema, Series(offsets_N1, time_O[order_O], item_O[order_O], value_O[order_O])


def absent(
    name: str, section: TableSection | SeriesSection, n: int, problems: list[Problem]
) -> tuple[TableSchema, Table] | tuple[SeriesSchema, Series]:
    """A modality that no patient of this site has: its declared schema, and nothing for n patients."""
    if isinstance(section, TableSection):
        columns = section.columns or ()
        schema = _table_schema(name, section, columns)
        _check_fields(problems, f"modalities.{name}", schema, columns)
        return schema, Table(np.full((n, len(columns)), np.nan, dtype=np.float32))
    items = tuple(str(level_text(item)) for item in section.items or ())
    nothing_O = np.empty(0, dtype=np.float32)
    data = Series(np.zeros(n + 1, dtype=np.int64), nothing_O, np.empty(0, dtype=np.int64), nothing_O)
    return SeriesSchema(name=name, items=items, horizon_hours=section.horizon or 1.0), data


def _table_schema(name: str, section: TableSection, columns: tuple[str, ...]) -> TableSchema:
    return TableSchema(
        name=name,
        columns=columns,
        categories={c: tuple(str(level_text(v)) for v in levels) for c, levels in section.categories.items()},
        mean=section.mean,
        std=section.std,
        standardise=section.standardise,
    )


def _patients(source: Source, column: str, field: str, position: Mapping[str, int] | None) -> NDArray[np.int64] | None:
    """Row of the patients file that each row belongs to, (R,); −1 = none, which is a problem."""
    if not source.has(column, field):
        return None
    codes_R, names = source.texts(column, id_text)
    if (codes_R < 0).any():
        source.report("no patient", "fill it in, or remove the row", column, codes_R < 0)
    if position is None:
        return codes_R
    row = np.array([*(position.get(name, -1) for name in names), -1], dtype=np.int64)
    if strangers := [name for name in names if name not in position]:
        what = f"{counted(len(strangers), 'patient')} not in the patients file: {listed(strangers, 3)}"
        source.report(what, "add them there, or remove their rows", column, (row[codes_R] < 0) & (codes_R >= 0))
    return row[codes_R]


def _columns(source: Source, field: str, section: TableSection, key: str) -> tuple[str, ...]:
    """Feature columns that are there, in declared order, else in the file's."""
    if section.columns is not None:
        if key in section.columns:
            source.report("the patient's id is no feature", f"take it out of {field}.columns", key)
        return tuple(c for c in section.columns if source.has(c, f"{field}.columns") and c != key)
    for column in section.exclude:
        source.has(column, f"{field}.exclude")
    found = tuple(c for c in source.columns if c != key and c not in section.exclude)
    if not found:
        source.report("no column besides the patient's id", f"add columns, or take {field} out of cohort.toml")
    return found


def _check_fields(problems: list[Problem], field: str, schema: TableSchema, used: tuple[str, ...]) -> None:
    """Categories and statistics must belong to columns that are used (one that the file lacks is reported already)."""

    def complain(option: str, column: str, known: tuple[str, ...]) -> None:
        what = f"{option} names {column!r}, which is not one of the columns used"
        problems.append(Problem("cohort.toml", what, suggest(column, known), column=f"{field}.{option}"))

    for column in schema.categories:
        if column not in used:
            complain("categories", column, used)
    numeric = tuple(column for column in used if column not in schema.categories)
    for column in schema.mean:
        if column not in numeric:
            complain("mean", column, numeric)
    lacking = [c for c in schema.numeric if c not in schema.mean]
    if schema.standardise == "given" and lacking:
        what = f'standardise = "given" without mean and std of {listed(lacking)}'
        problems.append(Problem("cohort.toml", what, "give them", column=field))


def _levels(source: Source, field: str, column: str, levels: tuple[str, ...]) -> NDArray[np.float32]:
    """Index of each row's level, (R,); NaN = empty or, which is a problem, undeclared."""
    codes_R, names = source.texts(column, level_text)
    index = {level: i for i, level in enumerate(levels)}
    undeclared = [name not in index for name in names]
    if any(undeclared):
        remedy = f"use {listed(levels)}, or declare it in {field}.categories"
        source.report("not a declared level", remedy, column, np.array([*undeclared, False])[codes_R])
    return np.array([*(index.get(name, np.nan) for name in names), np.nan], dtype=np.float32)[codes_R]


def _items(
    source: Source, field: str, section: SeriesSection, given_R: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], tuple[str, ...], NDArray[np.bool_]]:
    """Index of each row's item, (R,), −1 = none; the items; which rows are excluded."""
    codes_R, names = source.texts(section.item, level_text)
    out = {level_text(item) for item in section.exclude}
    declared = section.items if section.items is not None else sorted(set(names) - out)
    items = tuple(str(level_text(item)) for item in declared)
    excluded_R = np.array([*(name in out for name in names), False])[codes_R]
    index = {item: i for i, item in enumerate(items)}
    item_R = np.array([*(index.get(name, -1) for name in names), -1], dtype=np.int64)[codes_R]
    if (empty_R := (codes_R < 0) & given_R).any():
        source.report("no item", "say what was measured, or remove the row", section.item, empty_R)
    unknown_R = (item_R < 0) & (codes_R >= 0) & ~excluded_R
    if unknown_R.any():
        strangers = listed(names[i] for i in np.unique(codes_R[unknown_R]))
        remedy = f"declare it in {field}.items, or leave it out with {field}.exclude"
        source.report(f"undeclared items: {strangers}", remedy, section.item, unknown_R)
    return item_R, items, excluded_R


def _check_times(
    source: Source, section: SeriesSection, time_R: NDArray[np.float64], given_R: NDArray[np.bool_]
) -> None:
    """Times in hours, (R,), of the rows that hold a value."""
    if (bad_R := given_R & np.isnan(time_R)).any():
        source.report("no time", "fill it in, or remove the row", section.time, bad_R)
    if (bad_R := given_R & (time_R < 0)).any():
        source.report("negative time", "count time from the patient's start, or remove the row", section.time, bad_R)
    if (
        section.horizon is not None
        and not section.clip
        and (bad_R := given_R & (time_R > section.horizon * CLOSE)).any()
    ):
        remedy = "set clip = true to leave later observations out, or a larger horizon; check time_unit"
        source.report(f"after the horizon of {section.horizon:g} hours", remedy, section.time, bad_R)
