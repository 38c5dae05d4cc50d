"""Return the columns of an open .csv or .parquet file. Bad cells are found without a loop over rows.

A .csv is read as text and converted here, so that a bad cell is reported with its line and does not turn its whole
column into text.
"""

import re
from collections import Counter
from collections.abc import Collection, Container
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from remind.data.cohort import cells, moments
from remind.data.cohort.csv_layout import Layout
from remind.data.cohort.problems import Problem, suggest
from remind.data.cohort.text import (
    SPELLED_MISSING,
    Names,
    id_text,
    is_missing,
    number_of,
    plain_numbers,
    quoted_otherwise,
)

_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d.*)?|\d{1,2}:\d{2}(:\d{2})?")
_ANY = Names()


@dataclass(frozen=True)
class Source:
    """An open data file of R rows, and the list that collects its problems.

    Attributes
    ----------
    remarks
        Warnings: suspicious, but not a problem.
    layout
        For a .csv: positions of its rows and cells.
    words
        For each column that was read: texts that counted as missing, and how often each occurred.
    rows_R
        Position in the file of each row, where only some rows of it are here; None: all.
    spoiled
        Where single patients may be left out: collects the problems of rows, which then are not in `problems`. None:
        every problem is one of the file.
    """

    file: str
    table: Any
    problems: list[Problem]
    remarks: list[str] = field(default_factory=list)
    layout: Layout | None = None
    words: dict[str, Counter[str]] = field(default_factory=dict)
    rows_R: NDArray[np.int64] | None = None
    spoiled: list["Spoiled"] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the column names, in the order of the file."""
        return tuple(self.table.column_names)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def report(self, what: str, remedy: str, column: str | None = None, bad_R: NDArray[np.bool_] | None = None) -> None:
        """Report a problem. `bad_R` marks its rows; the first is shown and the rest are counted."""
        if bad_R is None:
            self.problems.append(Problem(self.file, what, remedy, None, column))
        elif self.spoiled is not None:
            self.spoiled.append(Spoiled(what, remedy, column, bad_R))
        else:
            count = int(bad_R.sum())
            what += f" ({count} rows in all)" if count > 1 else ""
            self.problems.append(self.problem_of(int(bad_R.argmax()), what, remedy, column))

    def problem_of(self, row: int, what: str, remedy: str, column: str | None) -> Problem:
        """Return a problem of one row, with its line and the value there."""
        at = row if self.rows_R is None else int(self.rows_R[row])
        line = at + 1
        if self.layout is not None:
            line = self.layout.line_of(at, self.columns.index(column) if column else 0)
        value = cells.shown(self.table[column].slice(row, 1), 0) if column else None
        return Problem(self.file, what, remedy, line, column, value)

    def has(self, column: str, field: str) -> bool:
        """Return whether the file has `column`, which `field` of cohort.toml names; if not, report a problem."""
        if column in self.columns:
            return True
        self.report("no such column", f"{suggest(column, self.columns)} ({field} in cohort.toml)", column)
        return False

    def texts(self, column: str, names: Names = _ANY, prose: bool = False) -> tuple[NDArray[np.int64], list[str]]:
        """Return a column as codes (R,), −1 = empty, and the distinct texts: declared `names`, or as written.

        A text of several lines is a problem, unless the column is `prose`.
        """
        array = self._plain(column)
        if (inexact_R := cells.inexact(array)).any():
            remedy = "write the column as text or as whole numbers (int64)"
            self.report(
                "a number too large for a column of floats: its last digits are lost", remedy, column, inexact_R
            )
        encoded = cells.as_texts(array).dictionary_encode()
        raw = [id_text(value) for value in encoded.dictionary.to_pylist()]
        numbers = not cells.is_text(array) or plain_numbers(text for text in raw if text is not None)
        each = self.spoiled is not None  # one patient's slip must not change what the cells of the others mean
        meant = [
            None if text is None else names.resolve(text, plain_numbers([text]) if each else numbers) for text in raw
        ]
        distinct = list(dict.fromkeys(text for text in meant if text is not None))
        code = {text: i for i, text in enumerate(distinct)}
        recode = np.array([-1 if text is None else code[text] for text in meant] + [-1], dtype=np.int64)
        index_R = encoded.indices.cast(pa.int64()).fill_null(len(raw)).to_numpy(zero_copy_only=False)
        self._count_words(column, raw, meant, index_R)
        if not prose and any(lines := [text is not None and ("\n" in text or "\r" in text) for text in meant]):
            remedy = "is a quotation mark missing, or closed rows too late? put one line into each cell"
            self.report("holds a line break", remedy, column, np.array([*lines, False])[index_R])
        if self.layout is not None and (marks := quoted_otherwise(distinct)):
            remedy = 'a .csv has the mark " alone, directly after the comma, with no space before it; or write none'
            bad = [text is not None and text[:1] == marks[0] and text[-1:] == marks[1] for text in meant]
            what = f"quotation marks {marks} that are part of the cell"
            self.report(what, remedy, column, np.array([*bad, False])[index_R])
        return recode[index_R], distinct

    def _count_words(
        self, column: str, raw: list[str | None], meant: list[str | None], index_R: NDArray[np.int64]
    ) -> None:
        """Count the texts that were treated as missing."""
        lost = [i for i, (text, name) in enumerate(zip(raw, meant, strict=True)) if name is None]
        count = np.bincount(index_R, minlength=len(raw) + 1)
        words = Counter({"": int(count[len(raw)])})
        for i in lost:
            words[raw[i] or ""] += int(count[i])
        self.words[column] = +words

    def numbers(self, column: str, remedy: str = "", dates: str = "") -> NDArray[np.float64]:
        """Return a column as numbers (R,), NaN = empty.

        A value that is not a finite float32 is a problem, and NaN here.

        `remedy` is added to the message about a cell that holds no number, `dates` if the cell holds a date.
        """
        array = self._plain(column)
        values_R, bad_R = numbers_of(array)
        if bad_R.any():
            what, hint = "not a number", "use numbers with a decimal point, empty = missing"
            first = cells.shown(array, int(bad_R.argmax())) or ""
            if cells.is_temporal(array) or _DATE.fullmatch(first.strip()):
                what, hint = "a date or time, not a number", f"count hours (or days) from each patient's start{dates}"
            self.report(what, f"{hint}{remedy}", column, bad_R)
        with np.errstate(over="ignore"):
            endless_R = np.isinf(values_R.astype(np.float32))
        if endless_R.any():
            self.report("infinite or too large", "use finite numbers, empty = missing", column, endless_R)
        values_R[endless_R] = np.nan
        return values_R

    def seconds(self, column: str) -> NDArray[np.float64]:
        """Return a column of dates and times as seconds since 1970, (R,), NaN = empty.

        Times with a zone are converted to UTC.
        """
        seconds_R, bad_R = moments.seconds(self._plain(column))
        if bad_R.any():
            remedy = "write dates as 2150-01-31, with a time as 2150-01-31 14:05:00, empty = missing"
            self.report("not a date and time", remedy, column, bad_R)
        return seconds_R

    def empty(self, column: str) -> NDArray[np.bool_]:
        """Return which cells of a column are empty or hold a word for a missing value, (R,)."""
        array = self._plain(column)
        if not cells.is_text(array):
            return np.asarray(pc.is_null(array, nan_is_null=True).to_numpy(zero_copy_only=False))
        encoded = array.dictionary_encode()
        missing = np.array([*map(is_missing, encoded.dictionary.to_pylist()), True])
        code_R = encoded.indices.cast(pa.int64()).fill_null(len(missing) - 1).to_numpy(zero_copy_only=False)
        return np.asarray(missing[code_R])

    def holds_durations(self, column: str) -> bool:
        """Return whether a column of a .parquet holds lengths of time, with their unit."""
        return bool(pa.types.is_duration(self.table[column].type))

    def durations(self, column: str) -> NDArray[np.float64]:
        """Return a column of lengths of time in seconds, (R,), NaN = empty."""
        array = self._plain(column)
        per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[array.type.unit]
        return _to_numpy(array.cast(pa.int64())) / per_second

    def check_swallowed(self, column: str, ids: Collection[str], known: Container[str] | None = None) -> None:
        """Report rows that are inside a single cell because a quotation mark was closed too late.

        Such a cell is well-formed. Its further lines reveal it: each line has the width of a row and the id of a
        `known` patient (if `known` is not given: an id of the same form as the others). In a file of two columns, that
        patient must also have no other row.

        Parameters
        ----------
        column, ids
            Column of the patient's id, and the ids of the rows that were parsed.
        known
            All patients, if they are known.
        """
        if self.layout is None or not len(self):
            return
        place = self.columns.index(column)
        own, shapes = set(ids), {_shape(text) for text in ids}
        for line, rows in self.layout.rows_in_cells(len(self.columns)):
            found = [row[place].strip().strip('"') for row in rows]
            alone = len(self.columns) > 2 or not own.intersection(found)
            if alone and all(text in known if known is not None else _shape(text) in shapes for text in found):
                what = f"a quotation mark is closed {len(found)} rows later: those rows stand in one cell"
                remedy = 'close it at the end of its cell, and write one that belongs to the text twice ("")'
                self.problems.append(Problem(self.file, what, remedy, line))

    def _plain(self, column: str) -> Any:
        """Return the column of `cells.plain`; an empty column, and a problem, if it cannot be used."""
        try:
            return cells.plain(self.table[column])
        except cells.UnusableError as error:
            if not any(p.file == self.file and p.column == column and p.what == error.what for p in self.problems):
                self.report(error.what, error.remedy, column)
            return pa.nulls(len(self), pa.large_string())


@dataclass(frozen=True)
class Spoiled:
    """A problem of some rows, `bad_R`, of a source."""

    what: str
    remedy: str
    column: str | None
    bad_R: NDArray[np.bool_]


def numbers_of(array: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return values (R,), NaN = empty or invalid, and which are invalid, for a column of `cells.plain`."""
    good_R = np.zeros(len(array), dtype=bool)
    if cells.is_temporal(array):
        return np.full(len(array), np.nan), array.is_valid().to_numpy(zero_copy_only=False)
    if not cells.is_text(array):
        return _to_numpy(array), good_R
    missing = pc.is_in(array, value_set=pa.array(SPELLED_MISSING, pa.large_string()))
    array = pc.if_else(missing, pa.scalar(None, pa.large_string()), array)
    try:
        return _to_numpy(array), good_R
    except pa.ArrowInvalid:  # some cell is not a plain number: parse each distinct text
        encoded = array.dictionary_encode()
        texts = [text.strip() for text in encoded.dictionary.to_pylist()]
        parsed = [float("nan") if is_missing(text) else number_of(text) for text in texts]
        value = np.array([np.nan if v is None else v for v in parsed] + [np.nan])
        wrong = np.array([v is None for v in parsed] + [False])
        codes_R = encoded.indices.cast(pa.int64()).fill_null(len(texts)).to_numpy(zero_copy_only=False)
        return value[codes_R], wrong[codes_R]


def _to_numpy(array: Any) -> NDArray[np.float64]:
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    numbers = pc.fill_null(pc.cast(array, pa.float64(), safe=cells.is_text(array)), float("nan"))
    return np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _shape(text: str) -> str:
    """Return the form of a text: each run of digits as 9, each run of letters as a."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", text))
