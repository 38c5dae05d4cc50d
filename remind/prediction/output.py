"""Writes predictions, as they come, as .csv or .parquet; memory does not grow with the number of patients."""

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from remind.errors import UserError
from remind.files import harmless, write_whole
from remind.prediction.predictions import Predictions

SUFFIXES = (".csv", ".parquet")
_TEXTS, _FLAGS = ("patient_id", "site", "status", "group", "decision", "reasons"), ("gate_open", "trusted")


class Count:
    """What was predicted so far.

    Attributes
    ----------
    patients, served, trusted
        How many.
    problems
        Statuses of patients who got no prediction, and how often each occurred, the first few kinds.
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
        text = f"{self.patients} patients, {self.served} of them served, {self.trusted} without a reason for doubt"
        return text + ("" if self.served == self.patients else "; column status says why the others were not")


def check_name(path: Path) -> None:
    """Refuse a file that cannot be written as a table.

    Raises
    ------
    UserError
        Its name ends otherwise, or its folder is not there.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {path}: name a .csv or a .parquet file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.absolute().parent}; make it first")


def write(path: Path, parts: Iterable[Predictions]) -> None:
    """Write a table, whole or not at all, that only its owner can read: it is about single patients.

    Raises
    ------
    UserError
        The file cannot be written, or the patients cannot be read.
    """
    check_name(path)
    to = _to_csv if path.suffix.lower() == ".csv" else _to_parquet
    try:
        write_whole(path, lambda partial: to(partial, parts), private=True)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written: {error.strerror or error}") from None


def print_csv(parts: Iterable[Predictions]) -> None:
    """Print a table as .csv."""
    _rows(sys.stdout, parts)


def _to_csv(path: Path, parts: Iterable[Predictions]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        _rows(file, parts)


def _rows(file: Any, parts: Iterable[Predictions]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    for number, part in enumerate(parts):
        columns = part.columns()
        if number == 0:
            writer.writerow(columns)
        writer.writerows([harmless(value) for value in row] for row in zip(*columns.values(), strict=True))


def _to_parquet(path: Path, parts: Iterable[Predictions]) -> None:
    writer = None
    try:
        for part in parts:
            columns = part.columns()
            arrays = {name: pa.array(values, _type(name)) for name, values in columns.items()}
            table = pa.table(arrays)
            writer = writer or pa.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _type(column: str) -> Any:
    if column in _TEXTS:
        return pa.string()
    if column in _FLAGS:
        return pa.bool_()
    return pa.int64() if column == "train_n" else pa.float64()
