"""Tables as data: rows of cells, each with its text and the unrounded numbers behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

from remind_studies.report.forest import Difference
from remind_studies.report.words import DASH, interval, number, p_value, quantity, signed
from remind_studies.results import GroupScore, SiteScore, Summary

BEST, FIRST, EQUAL, OPEN = "★", "▲", "≈", "?"


def marks(margin: str) -> str:
    """Explain the marks."""
    return (
        f"{BEST}: the best of its column, and every other method is shown to be behind it or to be equal. "
        f"{FIRST}: the best mean where that is not sure. {EQUAL}: shown to lie within {margin} of the best mean. "
        f"{OPEN}: neither shown to differ from the best mean nor shown to be equal. No mark: behind."
    )


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes
    ----------
    text
        As shown.
    value, low, high
        The numbers behind it, unrounded; None where there are none.
    notes
        Lines in small print below.
    bold, mark
        How it stands out, in weight and by a sign.
    words
        Whether it holds words, not a number.
    """

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    notes: Sequence[str] = ()
    bold: bool = False
    mark: str = ""
    words: bool = False


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes
    ----------
    look
        How it is set apart: own, anchor, pale or nothing.
    note
        In small print below the name.
    number
        Before the name.
    link
        Id of what the name leads to.
    """

    name: str
    cells: Sequence[Cell]
    look: str = ""
    note: str = ""
    number: int | None = None
    link: str = ""


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes
    ----------
    key
        Its id on the page.
    caption
        What it holds.
    corner
        Heading of the rows' names.
    head
        Headings of the columns, and what each means.
    """

    key: str
    caption: str
    corner: str
    head: Sequence[tuple[str, str]]
    rows: Sequence[Row]


def score(one: Summary | GroupScore | SiteScore | None, seeds: int, mark: str = "") -> Cell:
    """Format a mean with its interval; if no seed has a score, that of all seeds' patients together.

    Parameters
    ----------
    seeds
        Number of seeds of the study; if there are fewer values, the cell says so.
    mark
        The method's mark in its column.
    """
    if one is None:
        return Cell(DASH)
    if one.mean is None:
        merged = None if isinstance(one, Summary) else one.pooled
        return Cell(DASH) if merged is None else Cell(number(merged), merged, notes=("merged",))
    by_chance = one.if_equal if isinstance(one, Summary) else None
    notes = _lines(
        interval(one.low, one.high),
        f"n = {one.n}" if one.n < seeds else "",
        f"if all were equal: {number(by_chance)}" if by_chance is not None else "",
    )
    return Cell(number(one.mean), one.mean, one.low, one.high, notes, bold=mark == BEST, mark=mark)


def difference(one: Difference | None, seeds: int) -> Cell:
    """Format an arm minus the reference, with interval and adjusted p; bold if it counts as a difference."""
    if one is None or one.difference is None:
        return Cell(DASH)
    p = "" if one.p is None else f"p\u00a0{p_value(one.p)}"
    p = f"{EQUAL} equal" if one.equal and not one.sure else p
    notes = _lines(interval(one.low, one.high, signed), f"n = {one.n}" if one.n < seeds else "", p)
    return Cell(signed(one.difference), one.difference, one.low, one.high, notes, bold=one.sure)


def fact(value: float | None) -> Cell:
    """Format a number of any size."""
    return Cell(quantity(value), value)


def _lines(*lines: str) -> tuple[str, ...]:
    return tuple(line for line in lines if line)
