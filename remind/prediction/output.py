"""Write predictions to .csv or .parquet as they are computed; memory does not grow with the number of patients."""

import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet

from remind.errors import UserError
from remind.files import escape_formula, whole
from remind.prediction.predictions import Predictions

SUFFIXES = (".csv", ".parquet")
_TEXTS = ("patient_id", "site", "status", "group", "decision", "reasons", "test")
_FLAGS, _WHOLE = ("gate_open", "trusted"), ("train_n", "n")
Part = TypeVar("Part", bound="Table")


class Table(Protocol):
    """Some rows of a table."""

    def columns(self) -> dict[str, list[Any]]:
        """Return column → values."""


class Count:
    """Counts the predictions so far.

    Attributes
    ----------
    patients, served, trusted
        Number of patients, of those with a prediction, and of those whose prediction has no reason for doubt.
    problems
        Status → number of patients without a prediction, for the first few statuses.
    """

    def __init__(self) -> None:
        self.patients = self.served = self.trusted = 0
        self.problems: Counter[str] = Counter()

    def passing(self, parts: Iterable[Predictions]) -> Iterator[Predictions]:
        """Yield the parts, and count their patients."""
        for part in parts:
            served_N = part.served_N
            self.patients += len(part)
            self.served += int(served_N.sum())
            self.trusted += sum(not reasons for reasons in part.reasons_N[served_N])
            yield part

    def __str__(self) -> str:
        text = f"{self.patients} patients, {self.served} with a prediction, {self.trusted} of them trusted"
        return text + ("" if self.served == self.patients else "; column status says why the others were not")


def check_name(path: Path, option: str = "--out") -> None:
    """Check that a table can be written to this file.

    Raises
    ------
    UserError
        The name has another ending, or the folder does not exist.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{option} {path}: name a .csv or a .parquet file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.absolute().parent}; make it first")


def write(path: Path, parts: Iterable[Table], option: str = "--out") -> None:
    """Write a table, complete or not at all. Only its owner can read the file, since it describes single patients.

    Raises
    ------
    UserError
        The file cannot be written, or the patients cannot be read.
    """
    for _ in writing(path, parts, lambda part: part, option):
        pass


def writing(path: Path, parts: Iterable[Part], of: Callable[[Part], Table], option: str = "--out") -> Iterator[Part]:
    """Yield the parts, and write a table of each. The file appears after the last part, as for `write`."""
    check_name(path, option)
    to = _ToCsv if path.suffix.lower() == ".csv" else _ToParquet
    try:
        with whole(path, private=True) as partial, closing(to(partial)) as file:
            for part in parts:
                file.add(of(part).columns())
                yield part
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written: {error.strerror or error}") from None


def print_csv(parts: Iterable[Table]) -> None:
    """Print a table as .csv."""
    rows = _Rows(sys.stdout)
    for part in parts:
        rows.add(part.columns())


class _Rows:
    """Writes rows of .csv into an open file."""

    def __init__(self, file: Any) -> None:
        self._writer, self._begun = csv.writer(file, lineterminator="\n"), False

    def add(self, columns: dict[str, list[Any]]) -> None:
        if not self._begun:
            self._writer.writerow(columns)
            self._begun = True
        self._writer.writerows([escape_formula(value) for value in row] for row in zip(*columns.values(), strict=True))


class _ToCsv:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self.add = _Rows(self._file).add

    def close(self) -> None:
        self._file.close()


class _ToParquet:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def add(self, columns: dict[str, list[Any]]) -> None:
        table = pa.table({name: pa.array(values, _type(name)) for name, values in columns.items()})
        self._writer = self._writer or pa.parquet.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _type(column: str) -> Any:
    if column in _TEXTS:
        return pa.string()
    if column in _FLAGS:
        return pa.bool_()
    return pa.int64() if column in _WHOLE else pa.float64()
