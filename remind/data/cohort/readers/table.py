"""Tables: one row per patient, numeric and categorical columns. Letters: R rows, N patients, F columns."""

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.contents import Table
from remind.data.cohort.problems import Problem, listed, suggest
from remind.data.cohort.readers.wanted import Wanted, missing_words, one_row_each, patient_rows
from remind.data.cohort.schema import TableSchema
from remind.data.cohort.sections import TableSection
from remind.data.cohort.tabular import Source
from remind.data.cohort.text import Names, declared_text


def read_table(source: Source, wanted: Wanted[TableSection]) -> tuple[TableSchema, Table] | None:
    """Read a table; None, and problems, if none of its rows belongs to a known patient."""
    field, section = wanted.field, wanted.section
    patient_R = patient_rows(source, wanted)
    columns = _columns(source, field, section, wanted.key)
    schema = _schema(wanted.name, section, columns)
    _check_fields(source.problems, field, schema, section.columns or columns)
    values_RF = np.full((len(source), len(columns)), np.nan, dtype=np.float32)
    for i, column in enumerate(columns):
        levels = schema.categories.get(column)
        if levels is None:
            values_RF[:, i] = source.numbers(column, f"; or declare the levels in {field}.categories")
        else:
            values_RF[:, i] = _levels(source, field, column, levels)
    if patient_R is None or wanted.position is None:
        return None
    known_R = one_row_each(source, wanted, patient_R)
    values_NF = np.full((len(wanted.position), len(columns)), np.nan, dtype=np.float32)
    values_NF[patient_R[known_R]] = values_RF[known_R]
    return schema, Table(values_NF)


def no_table(name: str, section: TableSection, n: int, problems: list[Problem]) -> tuple[TableSchema, Table]:
    """A table that none of the n patients of this site has: its declared schema."""
    columns = section.columns or ()
    schema = _schema(name, section, columns)
    _check_fields(problems, f"modalities.{name}", schema, columns)
    return schema, Table(np.full((n, len(columns)), np.nan, dtype=np.float32))


def _schema(name: str, section: TableSection, columns: tuple[str, ...]) -> TableSchema:
    return TableSchema(
        name=name,
        columns=columns,
        categories={c: tuple(declared_text(v) for v in levels) for c, levels in section.categories.items()},
        mean=section.mean,
        std=section.std,
        standardise=section.standardise,
    )


def _columns(source: Source, field: str, section: TableSection, key: str) -> tuple[str, ...]:
    """Return the feature columns that exist, in the declared order, else in the order of the file."""
    if section.columns is not None:
        if key in section.columns:
            source.report("the patient's id is no feature", f"take it out of {field}.columns", key)
        return tuple(c for c in section.columns if source.has(c, f"{field}.columns") and c != key)
    for column in section.exclude:
        source.has(column, f"{field}.exclude")
    numbers = [c for c in source.row_numbers() if c != key and c not in section.exclude]
    if numbers:
        what = f"{listed(map(repr, numbers))} holds the numbers of the rows, which pandas' to_csv leaves: passed over"
        source.remarks.append(f"{field.removeprefix('modalities.')}: {what}; index=False leaves it out")
    found = tuple(c for c in source.columns if c != key and c not in (*section.exclude, *numbers))
    if not found:
        source.report("no column besides the patient's id", f"add columns, or take {field} out of cohort.toml")
    return found


def _check_fields(problems: list[Problem], field: str, schema: TableSchema, used: tuple[str, ...]) -> None:
    """Require that categories and statistics belong to columns in use. Missing columns are reported elsewhere."""

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
    """Return the index of each row's level, (R,); NaN = empty, or undeclared, which is a problem."""
    codes_R, names = source.texts(column, Names(levels))
    field_of = f"which counts as missing; declare it in {field}.categories if it is a level"
    missing_words(source, field.removeprefix("modalities."), column, f"{column!r}:", field_of)
    index = {level: i for i, level in enumerate(levels)}
    undeclared = [name not in index for name in names]
    if any(undeclared):
        remedy = f"use {listed(levels)}, or declare it in {field}.categories"
        source.report("not a declared level", remedy, column, np.array([*undeclared, False])[codes_R])
    return np.array([*(index.get(name, np.nan) for name in names), np.nan], dtype=np.float32)[codes_R]
