"""Tables: one row per patient, numeric and categorical columns. Letters: R rows, N patients, F columns."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator
from typing_extensions import override

from remind.data.cohort.contents import Contents, Integers, Mask
from remind.data.cohort.kind import Columns, Floats, Kind, Measured, Text, ToTensor, register
from remind.data.cohort.modality_schema import ModalitySchema
from remind.data.cohort.problems import Problem, listed, suggest
from remind.data.cohort.row_counters import in_order, row_numbers
from remind.data.cohort.sections import Name, Scalar, Section, Standardise, without_repeats
from remind.data.cohort.tabular import Source
from remind.data.cohort.text import Names, declared_text
from remind.data.cohort.wanted import Wanted, missing_words, one_row_each, patient_rows
from remind.suggest import did_you_mean

FEW_VALUES = 10  # up to this many different numbers, a column's leak is also looked for value by value


class TableSection(Section):
    """A modality with one row per patient."""

    kind: Literal["table"]
    columns: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    exclude: tuple[Name, ...] = ()
    categories: dict[Name, Annotated[tuple[Scalar, ...], Field(min_length=1)]] = Field({})
    mean: dict[Name, float] = Field({})
    std: dict[Name, Annotated[float, Field(gt=0)]] = Field({})
    standardise: Standardise = "train"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        without_repeats("columns", self.columns or ())
        for column, levels in self.categories.items():
            without_repeats(f"categories.{column}", tuple(declared_text(v) for v in levels))
        if self.standardise != "given" and (self.mean or self.std):
            raise ValueError('mean and std are only used with standardise = "given"; add it or remove them')
        if set(self.mean) != set(self.std):
            raise ValueError(f"mean and std name different columns: {sorted(set(self.mean) ^ set(self.std))}")
        if self.columns is not None and self.exclude:
            raise ValueError("columns and exclude are both given; columns is enough")
        if self.absent and (self.file is not None or self.columns is None):
            raise ValueError("absent = true needs columns, so that other sites know them, and no file")
        return self


class TableSchema(ModalitySchema):
    """A modality with one row of F columns per patient.

    Attributes
    ----------
    columns
        The F columns, in the order of `cohort.Table.values_NF`.
    categories
        Levels of the categorical columns, as text (``1``, ``1.0`` and ``"1"`` are the level ``"1"``); the rest are
        numeric.
    mean, std
        The given statistics of every numeric column if `standardise` is ``"given"``; else empty.
    standardise
        ``"train"``: from the site's training patients; ``"given"``; ``"none"``.
    """

    kind: Literal["table"] = "table"
    columns: tuple[str, ...]
    categories: dict[str, tuple[str, ...]] = Field({})
    mean: dict[str, float] = Field({})
    std: dict[str, float] = Field({})
    standardise: Standardise = "train"

    @property
    def numeric(self) -> tuple[str, ...]:
        """Return the numeric columns, in order."""
        return tuple(c for c in self.columns if c not in self.categories)


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


@register
class TableKind(Kind[TableSection, TableSchema, Table]):
    """Tables."""

    section, schema, contents = TableSection, TableSchema, Table

    @override
    def read(self, source: Source, wanted: Wanted[TableSection]) -> tuple[TableSchema, Table] | None:
        return read_table(source, wanted)

    @override
    def absent(self, name: str, section: TableSection, n: int, problems: list[Problem]) -> tuple[TableSchema, Table]:
        columns = section.columns or ()
        schema = _schema(name, section, columns)
        _check_fields(problems, f"modalities.{name}", schema, columns)
        return schema, Table(np.full((n, len(columns)), np.nan, dtype=np.float32))

    @override
    def describe(self, schema: TableSchema) -> str:
        return f"table, {len(schema.numeric)} numeric and {len(schema.categories)} categorical columns"

    @override
    def inferred(self, section: TableSection) -> tuple[str, ...]:
        return ("columns",) if section.columns is None else ()

    @override
    def suspicious(self, schema: TableSchema, contents: Table, outcome: frozenset[str]) -> list[str]:
        lines = []
        if leaks := [c for c in schema.columns if c in outcome]:
            lines.append(f"{schema.name}: {listed(leaks)} is named like the label or the split; is it a feature?")
        nothing_F = np.isnan(contents.values_NF).all(axis=0)
        if nothing_F.any():
            empty = listed(np.array(schema.columns)[nothing_F])
            lines.append(f"{schema.name}: no patient has a value of {empty}")
        return lines

    @override
    def features(self, schema: TableSchema, contents: Table) -> Iterator[tuple[str, Floats]]:
        present_n = contents.present()
        for name, values_n in zip(schema.columns, contents.values_NF.T.astype(np.float64), strict=True):
            yield from _of_column(name, values_n, schema.categories.get(name), present_n)

    @override
    def measured(self, schema: TableSchema, contents: Table) -> Iterator[Measured]:
        for name, value_N in zip(schema.columns, contents.values_NF.T, strict=True):
            patient_O = np.flatnonzero(~np.isnan(value_N))
            yield Measured(name, patient_O, value_N[patient_O].astype(np.float64), schema.categories.get(name, ()))

    @override
    def columns(self, folder: Path, patient_id_N: Text, schema: TableSchema, contents: Table) -> Columns:
        has_N = contents.present()
        columns: Columns = {"patient_id": patient_id_N[has_N].tolist()}
        for i, column in enumerate(schema.columns):
            values = contents.values_NF[has_N, i]
            if levels := schema.categories.get(column):
                columns[column] = pa.array([None if np.isnan(v) else levels[int(v)] for v in values], pa.string())
            else:
                columns[column] = pa.array(values, pa.float32(), from_pandas=True)  # NaN becomes an empty cell
        return columns

    @override
    def fields(self, schema: TableSchema, contents: Table) -> dict[str, Any]:
        given = {"categories": schema.categories, "mean": schema.mean, "std": schema.std}
        return {
            "columns": schema.columns,
            "standardise": schema.standardise,
            **{field: value for field, value in given.items() if value},
        }

    @override
    def inputs(self, schema: TableSchema, contents: Table, tensor: ToTensor) -> Callable[[Integers], Any]:
        """Return the values (P, F), NaN = missing. The whole table is kept on the device."""
        values_NF = tensor(contents.values_NF)
        return lambda index_P: values_NF[tensor(index_P)]


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
    numbers = [c for c in row_numbers(source) if c != key and c not in section.exclude]
    if numbers:
        what = f"{listed(map(repr, numbers))} holds the numbers of the rows, which pandas' to_csv leaves: passed over"
        source.remarks.append(f"{field.removeprefix('modalities.')}: {what}; index=False leaves it out")
    found = tuple(c for c in source.columns if c != key and c not in (*section.exclude, *numbers))
    if counting := [c for c in in_order(source) if c in found]:
        what = f"{listed(map(repr, counting))} counts the rows of the file from one to the next; is it a feature?"
        source.remarks.append(f"{field.removeprefix('modalities.')}: {what} if not: {field}.exclude")
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
        first = next(name for name, is_new in zip(names, undeclared, strict=True) if is_new)
        remedy = f"use {listed(levels)}, or declare it in {field}.categories{did_you_mean(first, levels)}"
        source.report("not a declared level", remedy, column, np.array([*undeclared, False])[codes_R])
    return np.array([*(index.get(name, np.nan) for name in names), np.nan], dtype=np.float32)[codes_R]


def _of_column(
    name: str, values_n: Floats, levels: tuple[str, ...] | None, present_n: NDArray[np.bool_]
) -> Iterator[tuple[str, Floats]]:
    there_n = ~np.isnan(values_n)
    if levels is None:
        yield repr(name), values_n
    if (there_n != present_n).any():
        yield f"whether {name!r} is known", there_n.astype(np.float64)
    if levels is not None or len(np.unique(values_n[there_n])) <= FEW_VALUES:
        for value in np.unique(values_n[there_n]):
            yield repr(name), np.where(there_n, values_n == value, np.nan)
