"""Notes: in a column of a table, or one file each. Letters: R rows, N patients."""

import numpy as np

from remind.data.cohort.contents import Texts
from remind.data.cohort.problems import Problem
from remind.data.cohort.readers.files import read_paths
from remind.data.cohort.readers.wanted import Wanted, missing_words, one_row_each, patient_rows
from remind.data.cohort.schema import TextSchema
from remind.data.cohort.sections import TextSection
from remind.data.cohort.tabular import Source

DEFAULT_TEXT = "text"
BETWEEN = "\n\n"  # separates the notes of one patient when they are joined


def read_text(source: Source, wanted: Wanted[TextSection]) -> tuple[TextSchema, Texts] | None:
    """Read notes as texts, or as paths that are opened when needed. An empty note counts as no note."""
    patient_R = patient_rows(source, wanted)
    section = wanted.section
    if section.path is not None:
        note_R = read_paths(source, wanted, section.path)
    elif source.has(section.text or DEFAULT_TEXT, f"{wanted.field}.text"):
        codes_R, texts = source.texts(section.text or DEFAULT_TEXT, prose=True)
        missing_words(source, wanted.name, section.text or DEFAULT_TEXT, "an empty note", "which counts as none", True)
        note_R = np.array([*texts, None], dtype=object)[codes_R]
    else:
        note_R = None
    if patient_R is None or wanted.position is None or note_R is None:
        return None
    note_N = np.full(len(wanted.position), None, dtype=object)
    if section.order is None:
        known_R = one_row_each(source, wanted, patient_R)
        note_N[patient_R[known_R]] = note_R[known_R]
    elif source.has(section.order, f"{wanted.field}.order"):
        order_R = source.numbers(section.order)
        for row in np.argsort(order_R, kind="stable"):
            if patient_R[row] >= 0 and note_R[row]:
                before = note_N[patient_R[row]]
                note_N[patient_R[row]] = note_R[row] if before is None else before + BETWEEN + note_R[row]
    return TextSchema(name=wanted.name), Texts(note_N)


def no_text(name: str, section: TextSection, n: int, problems: list[Problem]) -> tuple[TextSchema, Texts]:
    """Notes that none of the n patients of this site has."""
    return TextSchema(name=name), Texts(np.full(n, None, dtype=object))
