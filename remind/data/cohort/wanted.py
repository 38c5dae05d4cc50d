"""The input of every reader, and what the readers share. Letters: R rows of a file, N patients of the cohort."""

import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.problems import counted, listed
from remind.data.cohort.sections import Section
from remind.data.cohort.tabular import Source
from remind.data.cohort.text import PLACEHOLDERS, spelled_alike

Section_co = TypeVar("Section_co", bound=Section, covariant=True)


@dataclass(frozen=True)
class Wanted(Generic[Section_co]):
    """A modality to read.

    Attributes
    ----------
    name, section
        From cohort.toml.
    key
        Column of the modality's file that identifies the patient.
    position
        Row of each patient in the patients file. None: unknown; ids are not checked and nothing is returned.
    folder
        Folder from which relative paths in the file start.
    starts
        Columns of the patients file from which series count: seconds of each patient, (N,), NaN = empty.
    """

    name: str
    section: Section_co
    key: str
    position: Mapping[str, int] | None
    folder: Path
    starts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def field(self) -> str:
        """Return the modality's field in cohort.toml."""
        return f"modalities.{self.name}"


def patient_rows(source: Source, wanted: Wanted[Section]) -> NDArray[np.int64] | None:
    """Return the row in the patients file of each row, (R,); −1 for an unknown patient, which is a problem."""
    column, position = wanted.key, wanted.position
    if not source.has(column, f"{wanted.field}.id"):
        return None
    codes_R, names = source.texts(column)
    source.check_swallowed(column, names, position)
    if (codes_R < 0).any():
        source.report("no patient", "fill it in, or remove the row", column, codes_R < 0)
    if position is None:
        return None
    row = np.array([*(position.get(name, -1) for name in names), -1], dtype=np.int64)
    if strangers := [name for name in names if name not in position]:
        what = f"{counted(len(strangers), 'patient')} not in the patients file: {listed(strangers, 3)}"
        remedy = _otherwise(strangers, position) or "add them there, or remove their rows"
        source.report(what, remedy, column, (row[codes_R] < 0) & (codes_R >= 0))
    return row[codes_R]


def _otherwise(strangers: Sequence[str], known: Iterable[str]) -> str:
    """Describe which unknown ids match a patient under another spelling; empty if none does."""
    of_spelling: dict[str, str] = {}
    for name in known:
        of_spelling.setdefault(spelled_alike(name), name)
    alike = [(name, of_spelling[spelled_alike(name)]) for name in strangers if spelled_alike(name) in of_spelling]
    if not alike:
        return ""
    name, other = alike[0]
    zeros = name.lstrip("0") == other.lstrip("0")
    which = "leading zeros differ" if zeros else "the way they are written differs"
    one, two = repr(name), repr(other)
    if unicodedata.normalize("NFKC", name) == unicodedata.normalize("NFKC", other):
        which, one, two = "the same letters of other Unicode characters", ascii(name), ascii(other)
    more = f" ({len(alike)} such ids)" if len(alike) > 1 else ""
    return (
        f"ids are texts: {one} is not {two} of the patients file, {which}{more}; "
        "write them alike in all files, as text, for Excel and pandas take zeros away from numbers"
    )


def one_row_each(source: Source, wanted: Wanted[Section], patient_R: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the rows of known patients, (R,). A patient with several rows is a problem."""
    known_R = patient_R >= 0
    again_R = np.ones(len(source), dtype=bool)
    again_R[np.unique(patient_R, return_index=True)[1]] = False
    if (again_R & known_R).any():
        source.report("patient has more than one row", "keep one row each", wanted.key, again_R & known_R)
    return np.asarray(known_R)


def missing_words(source: Source, name: str, column: str, nothing: str, so: str, empty: bool = False) -> None:
    """Warn about words for a missing value in a column of modality `name`, such as 'None' of pandas.

    Parameters
    ----------
    nothing
        What such a cell means.
    so
        The consequence.
    empty
        Whether to warn about empty cells too.
    """
    counts: Mapping[str, int] = source.words.get(column, {})
    words = {word: n for word, n in counts.items() if word.strip()}
    rows = sum(words.values()) + (sum(n for word, n in counts.items() if not word.strip()) if empty else 0)
    if rows:
        spelled = f" ({', '.join(repr(word) for word in sorted(words))})" if words else ""
        hold = "row holds" if rows == 1 else "rows hold"
        source.remarks.append(f"{name}: {rows} {hold} {nothing}{spelled}, {so}")


def placeholders(
    source: Source, name: str, texts: Sequence[str], code_R: NDArray[np.int64], what: str, known: Container[str] = ()
) -> None:
    """Warn about texts such as 'unknown' in a column of modality `name`: they count as data, though they may mean none.

    Parameters
    ----------
    texts, code_R
        The distinct texts, and which one each row holds.
    what
        What such a text counts as.
    known
        Declared names, which are meant.
    """
    found = [i for i, text in enumerate(texts) if text.casefold() in PLACEHOLDERS and text not in known]
    if rows := int(np.isin(code_R, found).sum()):
        words = ", ".join(repr(texts[i]) for i in found)
        hold = "row holds" if rows == 1 else "rows hold"
        source.remarks.append(f"{name}: {rows} {hold} {words}, which counts as {what}; leave it empty if it means none")


def read_paths(source: Source, wanted: Wanted[Section], column: str) -> NDArray[np.object_] | None:
    """Return the path in each row, (R,); relative paths start from the cohort's folder; None if the cell is empty."""
    if not source.has(column, f"{wanted.field}.path"):
        return None
    codes_R, names = source.texts(column)
    missing_words(source, wanted.name, column, "no path", "which counts as none")
    paths: list[Path | None] = [wanted.folder / Path(name).expanduser() for name in names]
    found_R = np.empty(len(codes_R), dtype=object)
    found_R[:] = [paths[code] if code >= 0 else None for code in codes_R]
    return found_R
