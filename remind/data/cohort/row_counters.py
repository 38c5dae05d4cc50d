"""Columns that only count the rows of a file, which pandas, R and spreadsheets write beside the data."""

import re
from typing import Any

import numpy as np

from remind.data.cohort import cells
from remind.data.cohort.tabular import Source, numbers_of

FEWEST_IN_ORDER = 10  # rows; fewer may count up by chance


def row_numbers(source: Source) -> tuple[str, ...]:
    """Return the columns that contain only the row number, judged by their name and values."""
    return tuple(column for column in source.columns if _is_row_number(source, column))


def in_order(source: Source) -> tuple[str, ...]:
    """Return the columns whose values increase by 1 from row to row, regardless of their name."""
    return tuple(column for column in source.columns if _counts_rows(source.table[column]))


def _is_row_number(source: Source, column: str) -> bool:
    if re.fullmatch(r"|Unnamed: \d+(\.\d+)?(_level_\d+)?|__index_level_\d+__", column.strip()):
        return True  # `csv_file` gives this name to a column without a name
    named = re.fullmatch(r"index|level_\d+|row_?(names?|id|num(ber)?)|\.\.\.1|X\.?1?", column.strip(), re.IGNORECASE)
    return bool(named) and _differ_and_are_whole(source.table[column])


def _differ_and_are_whole(column: Any) -> bool:
    """Return whether the cells are distinct whole numbers from 0, like row numbers."""
    try:
        values_R, bad_R = numbers_of(cells.plain(column))
    except cells.UnusableError:
        return False
    whole = not bad_R.any() and bool((values_R >= 0).all()) and bool((values_R == np.floor(values_R)).all())
    return whole and len(np.unique(values_R)) == len(values_R)


def _counts_rows(column: Any) -> bool:
    """Return whether each cell is the one before it plus 1; of few rows that may be chance."""
    try:
        values_R, bad_R = numbers_of(cells.plain(column))
    except cells.UnusableError:
        return False
    return len(values_R) >= FEWEST_IN_ORDER and not bad_R.any() and bool((np.diff(values_R) == 1).all())
