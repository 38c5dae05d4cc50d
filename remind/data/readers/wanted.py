"""What every reader is given, and what they share. Letters: R rows of a file, N patients of the cohort."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from remind.data.problems import counted, listed
from remind.data.sections import Section
from remind.data.tabular import Source
from remind.data.text import id_text

Section_co = TypeVar("Section_co", bound=Section, covariant=True)


@dataclass(frozen=True)
class Wanted(Generic[Section_co]):
    """A modality that is to be read.

    Attributes
    ----------
    name, section
        What cohort.toml says.
    key
        Column of the modality's file that holds the patient.
    position
        Row of each patient in the patients file; None: not known, ids are not checked and nothing is returned.
    folder
        Where relative paths in the file begin.
    """

    name: str
    section: Section_co
    key: str
    position: Mapping[str, int] | None
    folder: Path

    @property
    def field(self) -> str:
        """Its place in cohort.toml."""
        return f"modalities.{self.name}"


def patient_rows(source: Source, wanted: Wanted[Section]) -> NDArray[np.int64] | None:
    """Row of the patients file that each row belongs to, (R,); −1 = none, which is a problem."""
    column, position = wanted.key, wanted.position
    if not source.has(column, f"{wanted.field}.id"):
        return None
    codes_R, names = source.texts(column, id_text)
    if (codes_R < 0).any():
        source.report("no patient", "fill it in, or remove the row", column, codes_R < 0)
    if position is None:
        return None
    row = np.array([*(position.get(name, -1) for name in names), -1], dtype=np.int64)
    if strangers := [name for name in names if name not in position]:
        what = f"{counted(len(strangers), 'patient')} not in the patients file: {listed(strangers, 3)}"
        source.report(what, "add them there, or remove their rows", column, (row[codes_R] < 0) & (codes_R >= 0))
    return row[codes_R]


def one_row_each(source: Source, wanted: Wanted[Section], patient_R: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Rows of known patients, (R,); a patient with several rows is a problem."""
    known_R = patient_R >= 0
    again_R = np.ones(len(source), dtype=bool)
    again_R[np.unique(patient_R, return_index=True)[1]] = False
    if (again_R & known_R).any():
        source.report("patient has more than one row", "keep one row each", wanted.key, again_R & known_R)
    return np.asarray(known_R)
