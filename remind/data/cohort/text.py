"""Texts of cells: which are empty, how a number is written, and which declared name a cell means.

A text keeps its spelling: the code 0030 is not 030, the site 5E1 is not 50. Only in a column of numbers do 1 and 1.0
have one spelling, because a file may store whole numbers as floats.
"""

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from math import isnan
from typing import Any

# Words that pandas, R, databases and Excel write for a missing value or a failed formula, in upper or lower case.
MISSING_WORDS = frozenset(
    {"", "na", "n/a", "n.a.", "n.a", "nan", "-nan", "null", "none", "nat", "<na>", "#n/a", "#na"}
    | {"\\n", "(null)", "<null>", "[null]", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}
    | {"#null!", "#ref!", "#div/0!", "#value!", "#name?", "#num!"}
)
# The most frequent spellings of these words, for readers that compare whole columns.
SPELLED_MISSING = sorted({*MISSING_WORDS, *(w.upper() for w in MISSING_WORDS), "None", "NaN", "NaT", "Null"})
LONGEST_WORD = 20  # characters of a cell that may mean a missing value; a note is longer
_MARKS = re.compile(r"[-.?_–—]+")  # a cell of marks alone: the point of SAS and Stata, a dash, a question mark
# What people write where there is nothing. It may also be a finding, so that it is warned of and keeps its meaning.
PLACEHOLDERS = frozenset(
    {"unknown", "missing", "not available", "not known", "not done", "not recorded", "no data", "empty", "blank", "nil"}
)
_PLAIN = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?|true|false", re.IGNORECASE)  # no leading zeros, no exponent
_WHOLE_FLOAT = re.compile(r"(-?(?:0|[1-9]\d*))\.0")


def is_missing(text: str) -> bool:
    """Return whether a cell with this text is empty, or holds a word for a missing value."""
    text = text.strip()
    return len(text) <= LONGEST_WORD and (text.casefold() in MISSING_WORDS or bool(_MARKS.fullmatch(text)))


def quoted_otherwise(texts: Iterable[str]) -> str:
    """Return the quotation marks that stand around every text, or around a text that also occurs without; else "".

    A .csv knows only the mark ", directly after the separator: others are part of the cell.
    """
    distinct = {text for text in texts if not is_missing(text)}
    for first, last in ('""', "''", "``", "“”", "„“", "‚‘", "‘’", "«»"):
        inside = {text[1:-1].strip() for text in distinct if len(text) > 2 and (text[0], text[-1]) == (first, last)}
        if inside and (len(inside) == len(distinct) or distinct & inside):
            return first + last
    return ""


def id_text(value: Any) -> str | None:
    """Return the text of a value; None if empty.

    ``"007"`` stays as it is; a whole float or decimal loses its ``.0``.
    """
    if value is None or (isinstance(value, float) and isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return str(int(value))
    return str(value).strip() or None


def declared_text(value: Any) -> str:
    """Return the text of a name in cohort.toml: 1, 1.0 and "1" become ``"1"``; "01" and "1.0" stay as they are."""
    return id_text(value) or ""


class Names:
    """Declared names, and which of them a cell means.

    Parameters
    ----------
    names
        The names of cohort.toml.
    exact
        Whether a text must match the spelling of the name: 250.0 is not 250 among codes. Otherwise a column that holds
        only plain numbers (or true and false) may write 1 as 1.0.
    """

    def __init__(self, names: Iterable[Any] = (), exact: bool = False) -> None:
        texts = [declared_text(name) for name in names]
        self.texts = frozenset(texts)
        spelled = [_one_spelling(text) for text in texts]
        self._of_spelling = (
            {} if exact else {s: t for s, t in zip(spelled, texts, strict=True) if spelled.count(s) == 1}
        )

    def resolve(self, text: str, plain: bool) -> str | None:
        """Return the text, or the name it means; None if it is empty. `plain`: the column holds only plain numbers."""
        text = text.strip()
        if text in self.texts:
            return text
        if is_missing(text):
            return None
        return self._of_spelling.get(_one_spelling(text), text) if plain else text


def plain_numbers(texts: Iterable[str]) -> bool:
    """Return whether these are the texts of a column of numbers, or of true and false; empty texts are ignored."""
    return all(_PLAIN.fullmatch(text.strip()) for text in texts if not is_missing(text))


def spelled_alike(text: str) -> str:
    """Normalise a text as Excel, pandas and file systems may change it.

    In one case and one Unicode form, without leading zeros, ``.0`` and separators.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    return re.sub(r"[\s_./-]+", "", _one_spelling(text).casefold()).lstrip("0")


def number_of(text: str) -> float | None:
    """Return the number that `text` spells, with a decimal point; None if it is not a number."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _one_spelling(text: str) -> str:
    if found := _WHOLE_FLOAT.fullmatch(text):
        return found[1]
    return text.lower() if text.lower() in ("true", "false") else text
