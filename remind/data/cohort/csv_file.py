"""Reads a .csv as a table of texts and checks the file as a whole: encoding, separators, quotation marks, row widths.

Messages name a line but never show it, because the line may contain a patient's data.
"""

import codecs
import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from remind.data.cohort.csv_layout import Bytes, Layout
from remind.data.cohort.problems import Problem

BLOCK, LARGEST_BLOCK = 1 << 24, 1 << 30  # bytes that Arrow parses at a time; no row may be longer
STREAMED = 1 << 21  # the same, where a file is read piece by piece
NAMELESS = "Unnamed: {}"  # pandas's name for a column without a name, counted from 0
_OTHER_FORMATS = {
    b"\x1f\x8b": "is compressed (gzip); unpack it",
    b"BZh": "is compressed (bzip2); unpack it",
    b"\xfd7zXZ\x00": "is compressed (xz); unpack it",
    b"\x28\xb5\x2f\xfd": "is compressed (zstd); unpack it",
    b"PK\x03\x04": 'is an Excel file or a .zip; save it as "CSV UTF-8 (comma delimited)"',
    b"\xd0\xcf\x11\xe0": 'is an Excel file; save it as "CSV UTF-8 (comma delimited)"',
    b"PAR1": "is a Parquet file; name it .parquet",
}
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_OTHER_QUOTES = re.compile(r",[ \t]+[\"'`“„‘]|,['`“„‘«]")  # begin a cell, and are no quotation marks of a .csv
_DECIMAL_COMMA = re.compile(r"\d,\d")
UTF8 = 'save it as "CSV UTF-8 (comma delimited)"; Excel\'s plain "CSV" is not UTF-8'
UTF16 = 'save it as "CSV UTF-8 (comma delimited)"; Excel\'s "Unicode text" is UTF-16, separated by tabs'


class _UnreadableError(Exception):
    """A file that cannot be read: what is wrong, what to do, and the line."""

    def __init__(self, what: str, remedy: str, line: int | None = None) -> None:
        super().__init__(what)
        self.what, self.remedy, self.line = what, remedy, line


def read_csv(path: Path, problems: list[Problem]) -> tuple[Any, Layout] | None:
    """Read all cells as texts (empty cells as null), with their positions; None, and a problem, if that is impossible.

    Raises
    ------
    OSError
        The file cannot be opened.
    """
    file = open_csv(path, problems)
    if file is None:
        return None
    try:
        return _parse(file.body, file.names, file.layout), file.layout
    except _UnreadableError as error:
        problems.append(Problem(path.name, error.what, error.remedy, error.line))
        return None


@dataclass(frozen=True)
class CsvFile:
    """A .csv whose format is in order.

    Attributes
    ----------
    names
        Its columns.
    body
        The bytes below the header, mapped.
    layout
        Positions of rows and cells.
    """

    names: list[str]
    body: Bytes
    layout: Layout

    def batches(self) -> Iterator[Any]:
        """Yield all rows as tables of texts, a few megabytes at a time, in order.

        Raises
        ------
        ValueError
            The file is no table of texts.
        """
        if len(self.layout.rows) == 1:
            return
        done, block = 0, STREAMED
        while True:
            left = done
            try:
                for batch in pa.csv.open_csv(pa.BufferReader(pa.py_buffer(self.body)), **_options(self.names, block)):
                    table = pa.table(batch)
                    skipped = min(left, len(table))
                    left -= skipped
                    if len(table) > skipped:
                        done += len(table) - skipped
                        yield table.slice(skipped)
                return
            except pa.ArrowInvalid as error:
                if "straddling" not in str(error) or block >= LARGEST_BLOCK:
                    reason = "not UTF-8 text" if "UTF8" in str(error) else "it is not a table of texts"
                    raise ValueError(reason) from None
                block *= 8  # a row is longer than a block: the rows that were read already are passed over


def open_csv(path: Path, problems: list[Problem], even: bool = False) -> CsvFile | None:
    """Examine a .csv as a whole; None, and a problem, if it cannot be read.

    Parameters
    ----------
    even
        Whether to count the cells of every row, and to decode every byte, now. Reading it whole does so anyway.

    Raises
    ------
    OSError
        The file cannot be opened.
    """
    try:
        file = _open(path)
        if even and (file.layout.widths()[1:] != len(file.names)).any():
            raise _uneven(file.layout, len(file.names))
        if even and (mistake := _first_not_utf8(file.layout)) is not None:
            raise mistake
        return file
    except _UnreadableError as error:
        problems.append(Problem(path.name, error.what, error.remedy, error.line))
        return None


def _open(path: Path) -> CsvFile:
    if not path.stat().st_size:
        raise _UnreadableError("cannot be read: the file is empty", "export it again")
    text: Bytes = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
    _check_format(text[:4096].tobytes())
    if text[:3].tobytes() == codecs.BOM_UTF8:
        text = text[3:]
    layout = Layout.of(text)
    if layout.mistake is not None:
        line, what = layout.mistake
        remedy = 'close it at the end of its cell, and write one that belongs to the text twice ("")'
        raise _UnreadableError(what, remedy, line)
    if not len(layout.rows):
        raise _UnreadableError("cannot be read: the file is empty", "export it again")
    start, end = layout.rows[0].tolist()
    header = _decoded(text[start:end], layout)
    _check_separators(header, text[end : end + 4096].tobytes().decode("utf-8", "replace"), layout.line_at(start))
    return CsvFile(_names(header, layout.line_at(start)), text[min(end + 1, len(text)) :], layout)


def _check_format(head: bytes) -> None:
    """Refuse a file that is not UTF-8 text."""
    for magic, words in _OTHER_FORMATS.items():
        if head.startswith(magic):
            what, remedy = words.split("; ")
            raise _UnreadableError(f"{what}, not a text", remedy)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head:
        raise _UnreadableError("is UTF-16 text (or no text at all), not UTF-8", UTF16)


def _decoded(text: Bytes, layout: Layout) -> str:
    try:
        return text.tobytes().decode()
    except UnicodeDecodeError:
        raise _not_utf8(layout) from None


def _not_utf8(layout: Layout) -> _UnreadableError:
    """Describe where the text is not UTF-8."""
    return _first_not_utf8(layout) or _UnreadableError("cannot be read: not UTF-8 text", UTF8)


def _first_not_utf8(layout: Layout) -> _UnreadableError | None:
    """Describe the first place where the text is not UTF-8; None if it all is."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(layout.text), BLOCK):
        pending = len(decoder.getstate()[0])
        part = layout.text[start : start + BLOCK].tobytes()
        try:
            decoder.decode(part, final=start + BLOCK >= len(layout.text))
        except UnicodeDecodeError as error:
            line = layout.line_at(max(start - pending + error.start, 0))
            return _UnreadableError("cannot be read: not UTF-8 text", UTF8, line)
    return None


def _check_separators(header: str, body: str, line: int) -> None:
    """Refuse semicolons (often with decimal commas), as European versions of Excel write them, and tabs."""
    if header.lower().startswith("sep="):
        raise _UnreadableError(
            f"begins with {header.strip()!r}, which only Excel understands", "remove that line", line
        )
    bare = re.sub(r'"[^"]*"', "", header)
    mark = max(_SEPARATORS, key=bare.count)
    if bare.count(mark) <= bare.count(","):
        return
    comma = bool(_DECIMAL_COMMA.search(body))
    what = f"columns are separated by {_SEPARATORS[mark]}, not by commas"
    what += ", and numbers seem to have decimal commas" if comma else ""
    decimal = ", decimal=','" if comma else ""
    points = " and decimal points" if comma else ""
    remedy = (
        f"save it comma-separated, with commas between the columns{points}, in UTF-8; in Python: "
        f"pandas.read_csv(file, dtype=str, sep={mark!r}).to_csv(file, index=False)"
    )
    if comma:
        remedy = remedy.replace("dtype=str, ", "").replace(f"sep={mark!r}", f"sep={mark!r}{decimal}, dtype={{id: str}}")
        remedy += ", where id is the column of the patient's id"
    raise _UnreadableError(what, remedy, line)


def _names(header: str, line: int) -> list[str]:
    """Return the column names. A column without a name gets one."""
    names = next(csv.reader([header.rstrip("\r")], strict=False), [])
    if "\n" in header or "\r" in header.rstrip("\r"):
        names = next(csv.reader(header.splitlines(keepends=True)), [])
    names = [name if name.strip() else NAMELESS.format(i) for i, name in enumerate(names)]
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise _UnreadableError(f"cannot be read: two columns are named {repeated[0]!r}", "give each its own name", line)
    return names


def _parse(body: Bytes, names: list[str], layout: Layout) -> Any:
    """Parse the rows below the header."""
    uneven: list[int] = []

    def skip(row: Any) -> str:
        uneven.append(row.actual_columns)
        return "skip"

    if len(layout.rows) == 1:
        return pa.table({name: pa.array([], pa.large_string()) for name in names})
    table = None
    block = BLOCK
    while table is None:
        try:
            table = pa.csv.read_csv(pa.BufferReader(pa.py_buffer(body)), **_options(names, block, skip))
        except pa.ArrowInvalid as error:
            if "straddling" in str(error) and block < LARGEST_BLOCK:
                uneven.clear()
                block *= 8
            elif "UTF8" in str(error):
                raise _not_utf8(layout) from None
            else:
                reason = "a row is longer than 1 GB" if "straddling" in str(error) else "it is not a table of texts"
                raise _UnreadableError(f"cannot be read: {reason}", "export it again as .csv, UTF-8") from None
    if uneven:
        raise _uneven(layout, len(names))
    if table.num_rows != len(layout.rows) - 1:  # no row may be lost silently
        raise _UnreadableError(
            "cannot be read: its quotation marks are ambiguous", "write it with every text in quotes"
        )
    return table


def _options(names: list[str], block: int, skip: Callable[[Any], str] | None = None) -> dict[str, Any]:
    types = dict.fromkeys(names, pa.large_string())  # a note may be long, and a column of notes larger than 2 GB
    return {
        "read_options": pa.csv.ReadOptions(column_names=names, block_size=block),
        "parse_options": pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        "convert_options": pa.csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""]),
    }


def _uneven(layout: Layout, width: int) -> _UnreadableError:
    """Return the rows that have too few or too many cells."""
    widths = layout.widths()[1:]
    bad = np.flatnonzero(widths != width)
    first = int(bad[0])
    rows = f" ({len(bad)} rows in all)" if len(bad) > 1 else ""
    cells = "1 cell" if widths[first] == 1 else f"{widths[first]} cells"
    what = f"cannot be read: {cells}, where the header has {width} columns{rows}"
    remedy = "put a text that holds a comma in quotation marks, and write numbers with a decimal point"
    start, end = layout.rows[first + 1].tolist()
    if _OTHER_QUOTES.search(layout.text[start:end].tobytes().decode("utf-8", "replace")):
        remedy += '; only " is a quotation mark, and only directly after a comma, with no space before it'
    return _UnreadableError(what, remedy, layout.line_of(first))
