"""Data files as columns: .csv and .parquet opened alike, and every bad cell found without a loop over rows.

A .csv is read as text and converted here, so that a bad cell is reported with its line and does not turn its column
into text.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from remind.data.problems import Problem, suggest
from remind.data.text import number_of

SUFFIXES = (".parquet", ".csv")
EMPTY_TEXTS = ["", "NA", "N/A", "NaN", "nan", "NULL", "null"]
_PANDAS_INDEX = "__index_level_"  # what pandas leaves in a .parquet when the index was written too


@dataclass(frozen=True)
class Source:
    """An open data file of R rows, and the list that its problems go to."""

    file: str
    table: Any
    problems: list[Problem]

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names, in the order of the file."""
        return tuple(self.table.column_names)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def report(self, what: str, remedy: str, column: str | None = None, bad_R: NDArray[np.bool_] | None = None) -> None:
        """Note a problem; `bad_R` says in which rows, of which the first is shown and the rest counted."""
        row, value = None, None
        if bad_R is not None:
            first, count = int(bad_R.argmax()), int(bad_R.sum())
            row = first + (2 if self.file.lower().endswith(".csv") else 1)
            cell = self.table[column][first].as_py() if column else None
            value = None if cell is None else str(cell)
            what += f" ({count} rows in all)" if count > 1 else ""
        self.problems.append(Problem(self.file, what, remedy, row, column, value))

    def has(self, column: str, field: str) -> bool:
        """Whether the file has `column`, which `field` of cohort.toml names; if not, that is a problem."""
        if column in self.columns:
            return True
        self.report("no such column", f"{suggest(column, self.columns)} ({field} in cohort.toml)", column)
        return False

    def texts(self, column: str, text: Callable[[Any], str | None]) -> tuple[NDArray[np.int64], list[str]]:
        """Column as codes (R,), −1 = empty, and the distinct texts they stand for."""
        encoded = _flat(self.table[column]).dictionary_encode()
        raw = [text(value) for value in encoded.dictionary.to_pylist()]
        distinct = list(dict.fromkeys(value for value in raw if value is not None))
        code = {value: i for i, value in enumerate(distinct)}
        recode = np.array([-1 if value is None else code[value] for value in raw] + [-1], dtype=np.int64)
        return recode[encoded.indices.cast(pa.int64()).fill_null(len(raw)).to_numpy(zero_copy_only=False)], distinct

    def numbers(self, column: str, remedy: str = "") -> NDArray[np.float64]:
        """Column as numbers (R,), NaN = empty; what is no finite float32 is a problem, and NaN here.

        `remedy` is added to what is said about a cell that holds no number.
        """
        values_R, bad_R = _numbers(_flat(self.table[column]))
        if bad_R.any():
            self.report("not a number", f"use numbers with a decimal point, empty = missing{remedy}", column, bad_R)
        with np.errstate(over="ignore"):
            endless_R = np.isinf(values_R.astype(np.float32))
        if endless_R.any():
            self.report("infinite or too large", "use finite numbers, empty = missing", column, endless_R)
        values_R[endless_R] = np.nan
        return values_R


def find_file(folder: Path, stem: str, file: str | None, field: str, problems: list[Problem]) -> Path | None:
    """File a section of cohort.toml means: the one it names, else ``<stem>.parquet`` or ``<stem>.csv``."""
    if file is not None:
        path = folder / file
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            return path
        if path.is_file():
            problems.append(Problem(file, f"neither {' nor '.join(SUFFIXES)}", "convert it to one of them"))
        else:
            beside = suggest(file, _data_files(folder))
            problems.append(
                Problem(file, f"no such file in {folder.resolve()}", f"{beside} ({field}.file in cohort.toml)")
            )
        return None
    found = [folder / (stem + suffix) for suffix in SUFFIXES if (folder / (stem + suffix)).is_file()]
    if len(found) == 1:
        return found[0]
    names = " or ".join(stem + suffix for suffix in SUFFIXES)
    what = "two files could be meant" if found else f"no such file in {folder.resolve()}"
    problems.append(Problem(names, what, f"name it with {field}.file; {suggest(stem, _data_files(folder))}"))
    return None


def open_source(path: Path, problems: list[Problem]) -> Source | None:
    """Open a .csv or .parquet; None, with a problem, if it cannot be read or has no rows."""
    try:
        table = (_read_csv if path.suffix.lower() == ".csv" else _read_parquet)(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        problems.append(Problem(path.name, f"cannot be read: {reason}", f"save it again as {path.suffix[1:]}, UTF-8"))
        return None
    source = Source(path.name, table, problems)
    if len(source.columns) == 1 and any(mark in source.columns[0] for mark in ";\t"):
        source.report("columns are not separated by commas", "save it comma-separated", source.columns[0])
        return None
    if not len(source):
        source.report("has no rows", "put rows in (a modality that this site has of nobody: absent = true)")
        return None
    for column in list(source.columns):
        if pa.types.is_nested(table.schema.field(column).type):
            source.report("holds lists, not single values", "use one column per value", column)
            table = table.set_column(table.column_names.index(column), column, pa.nulls(table.num_rows))
    return Source(path.name, table, problems)


def _data_files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def _read_csv(path: Path) -> Any:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        names = next(csv.reader(stream), [])
    if not names:
        raise ValueError("the file is empty")
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(f"two columns are named {repeated[0]!r}")
    options = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        strings_can_be_null=True,
        null_values=EMPTY_TEXTS,
    )
    # Names are given, not inferred: Arrow would keep a byte-order mark in the first one.
    read = pa.csv.ReadOptions(column_names=names, skip_rows=1)
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    try:
        return pa.csv.read_csv(path, read_options=read, parse_options=parse, convert_options=options)
    except pa.ArrowInvalid:
        read.use_threads = False  # slower, but its message names the row
        return pa.csv.read_csv(path, read_options=read, parse_options=parse, convert_options=options)


def _read_parquet(path: Path) -> Any:
    with pa.parquet.ParquetFile(path) as file:
        names = [str(n) for n in file.schema_arrow.names]
        if repeated := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two columns are named {repeated[0]!r}")
        wanted = [n for n in names if not n.startswith(_PANDAS_INDEX)]
        return file.read(columns=wanted)


def _flat(column: Any) -> Any:
    """One plain Arrow array of a chunked, perhaps dictionary-encoded column."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    return column.combine_chunks()


def _numbers(array: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values (R,), NaN = empty or bad, and which are bad."""
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        try:
            return _to_numpy(array), np.zeros(len(array), dtype=bool)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # dates and the like
            return np.full(len(array), np.nan), array.is_valid().to_numpy(zero_copy_only=False)
    try:
        return _to_numpy(array), np.zeros(len(array), dtype=bool)
    except pa.ArrowInvalid:  # something is no plain number: look at each distinct text
        encoded = array.dictionary_encode()
        texts = [text.strip() for text in encoded.dictionary.to_pylist()]
        parsed = [float("nan") if text in EMPTY_TEXTS else number_of(text) for text in texts]
        value = np.array([np.nan if v is None else v for v in parsed] + [np.nan])
        wrong = np.array([v is None for v in parsed] + [False])
        codes_R = encoded.indices.cast(pa.int64()).fill_null(len(texts)).to_numpy(zero_copy_only=False)
        return value[codes_R], wrong[codes_R]


def _to_numpy(array: Any) -> NDArray[np.float64]:
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    numbers = pc.fill_null(pc.cast(array, pa.float64()), float("nan"))
    return np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)
