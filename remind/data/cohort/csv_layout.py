"""Finds quoted cells and rows in the bytes of a .csv, to check quotation marks and to report the line of a cell.

A row ends at a line break outside quotation marks. A cell is quoted if its first character is a quotation mark; it ends
at the next quotation mark that is not doubled (RFC 4180). Anywhere else, a quotation mark is an ordinary character.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Positions = NDArray[np.int64]
QUOTE, COMMA, LF, CR = b'",\n\r'
STEP = 1 << 26  # bytes that are searched at a time
NEVER_CLOSED = "a quotation mark is never closed"
TEXT_AFTER = "text follows a closing quotation mark"
_ENDS_A_CELL = np.isin(np.arange(256), (COMMA, LF, CR))


@dataclass(frozen=True)
class Quoted:
    """The quoted cells of a range of bytes.

    Attributes
    ----------
    open_C, close_C
        Positions of the outer quotation marks of the C cells; −1 for a cell that was opened before the first byte.
    inside
        Whether a cell is still open after the last byte.
    mistake
        Position of a quotation mark that must be wrong, and the reason; None if there is no such mark.
    """

    open_C: Positions
    close_C: Positions
    inside: bool = False
    mistake: tuple[int, str] | None = None


def quoted(text: Bytes, inside: bool = False) -> Quoted:
    """Find the quoted cells.

    `inside` says whether a cell is open before the first byte; else that byte starts a line.
    """
    at_Q = _where(text, QUOTE)
    if not len(at_Q):
        nothing = np.empty(0, dtype=np.int64)
        return Quoted(nothing, nothing, inside)
    before_Q = np.where(at_Q > 0, text[at_Q - 1], LF)
    after_Q = np.where(at_Q + 1 < len(text), text[np.minimum(at_Q + 1, len(text) - 1)], LF)
    starts_Q, ends_Q = _ENDS_A_CELL[before_Q], _ENDS_A_CELL[after_Q]
    next_to_Q = np.append(np.diff(at_Q) == 1, False)  # the next byte is also a quotation mark
    follows_Q = np.append(False, next_to_Q[:-1])
    opens_Q = (np.arange(len(at_Q)) + inside) % 2 == 0  # valid if every quotation mark delimits a cell or is doubled
    if np.where(opens_Q, starts_Q | follows_Q, ends_Q | next_to_Q).all():
        open_C, close_C = at_Q[opens_Q & ~follows_Q], at_Q[~opens_Q & ~next_to_Q]
        if inside:
            open_C = np.append(-1, open_C)
        return Quoted(open_C, close_C, len(open_C) > len(close_C))
    return _one_by_one(at_Q, starts_Q, ends_Q, next_to_Q, inside)


def _one_by_one(
    at_Q: Positions, starts_Q: NDArray[np.bool_], ends_Q: NDArray[np.bool_], next_to_Q: NDArray[np.bool_], inside: bool
) -> Quoted:
    """Find the quoted cells if some quotation marks are ordinary characters of unquoted cells, or wrong."""
    opened, closed = [-1] if inside else [], []
    mistake = None
    marks = zip(at_Q.tolist(), starts_Q.tolist(), ends_Q.tolist(), next_to_Q.tolist(), strict=True)
    for at, starts, ends, doubled in marks:
        if not inside:
            if starts:
                inside = True
                opened.append(at)
        elif doubled:
            next(marks)
        elif ends:
            inside = False
            closed.append(at)
        else:
            mistake = at, TEXT_AFTER
            break
    return Quoted(np.array(opened, dtype=np.int64), np.array(closed, dtype=np.int64), inside, mistake)


@dataclass(frozen=True, eq=False)
class Layout:
    """The positions of rows and cells in a whole file.

    Attributes
    ----------
    text
        The bytes of the file, without a byte-order mark.
    cells
        The quoted cells.
    """

    text: Bytes
    cells: Quoted

    @classmethod
    def of(cls, text: Bytes) -> "Layout":
        """Find the layout of a text."""
        return cls(text, quoted(text))

    @property
    def mistake(self) -> tuple[int, str] | None:
        """Return the line of a quotation mark that must be wrong, and the reason."""
        opened = int(self.cells.open_C[-1]) if self.cells.inside else None
        if self.cells.mistake is not None:  # usually the mark that opened the cell is the wrong one
            at, what = self.cells.mistake
            line, here = self.line_at(opened if opened is not None else at), self.line_at(at)
            return line, what if here == line else f"{what} in line {here}, which was opened here"
        return None if opened is None else (self.line_at(opened), NEVER_CLOSED)

    def line_at(self, position: int) -> int:
        """Return the line number of a byte, counted from 1."""
        before = self.text[:position]
        lone = _lone(before, _where(before, CR))
        return 1 + len(_where(before, LF)) + len(lone)

    @cached_property
    def breaks(self) -> Positions:
        """Return the positions of all line breaks; for CR LF, the position of LF."""
        lone = _lone(self.text, _where(self.text, CR))
        return np.sort(np.concatenate([_where(self.text, LF), lone]))

    @cached_property
    def rows(self) -> Positions:
        """Return start and end of each row that is not blank, (R, 2); the first row is the header."""
        ends = np.append(self.breaks[~self._within(self.breaks)], len(self.text))
        starts = np.append(0, ends[:-1] + 1)
        length = ends - starts
        only_cr = (length == 1) & (self.text[np.minimum(starts, len(self.text) - 1)] == CR)
        filled = (length > 0) & ~only_cr
        return np.stack([starts[filled], ends[filled]], axis=1)

    def line_of(self, row: int, column: int = 0) -> int:
        """Return the line in which a cell begins.

        `row` counts the rows below the header from 0; `column` counts from 0.
        """
        start, end = self.rows[row + 1].tolist()
        commas = start + np.flatnonzero(self.text[start:end] == COMMA)
        cells = np.append(start, commas[~self._within(commas)] + 1)
        return self.line_at(int(cells[min(column, len(cells) - 1)]))

    def widths(self) -> Positions:
        """Return the number of cells in each row, (R,)."""
        commas = _where(self.text, COMMA)
        commas = commas[~self._within(commas)]
        start_R, end_R = self.rows[:, 0], self.rows[:, 1]
        within_R = np.searchsorted(commas, end_R) - np.searchsorted(commas, start_R)
        return within_R.astype(np.int64) + 1

    def rows_in_cells(self, width: int) -> list[tuple[int, list[list[str]]]]:
        """Find quoted cells whose further lines all look like rows of `width` cells.

        Returns the line and these rows.
        """
        if not len(self.cells.open_C):
            return []
        first_C = np.searchsorted(self.breaks, self.cells.open_C)
        last_C = np.searchsorted(self.breaks, self.cells.close_C)
        found = []
        for i in np.flatnonzero(last_C > first_C).tolist():
            end = self.breaks[last_C[i]] if last_C[i] < len(self.breaks) else len(self.text)
            body = self.text[self.breaks[first_C[i]] + 1 : end].tobytes().decode("utf-8", "replace")
            if rows := _like_rows(body, width):
                found.append((self.line_at(int(self.cells.open_C[i])), rows))
        return found

    def _within(self, at: Positions) -> NDArray[np.bool_]:
        """Return whether positions lie inside quoted cells."""
        open_C, close_C = self.cells.open_C, self.cells.close_C
        if not len(open_C):
            return np.zeros(len(at), dtype=bool)
        close_C = np.append(close_C, len(self.text)) if len(close_C) < len(open_C) else close_C
        cell = np.searchsorted(open_C, at) - 1
        return np.asarray((cell >= 0) & (at < close_C[np.maximum(cell, 0)]))


def _like_rows(body: str, width: int) -> list[list[str]]:
    """Parse lines as rows. Returns none if a line is prose: another number of commas, or a space after a comma."""
    rows = []
    *middle, last = body.splitlines() or [""]
    for line, exact in [*((line, True) for line in middle), (last, False)]:
        if not line.strip():
            continue
        cells = line.split(",")
        if len(cells) < width or (exact and len(cells) > width) or any(c.startswith(" ") for c in cells[1:width]):
            return []
        rows.append(cells)
    return rows if width > 1 else []


def _where(text: Bytes, byte: int) -> Positions:
    """Return the positions of a byte."""
    parts = [start + np.flatnonzero(text[start : start + STEP] == byte) for start in range(0, len(text), STEP)]
    return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, dtype=np.int64)


def _lone(text: Bytes, at: Positions) -> Positions:
    """Return the carriage returns that are not followed by a line feed."""
    following = np.minimum(at + 1, max(len(text) - 1, 0))
    return at[(text[following] != LF) | (at + 1 >= len(text))] if len(at) else at
