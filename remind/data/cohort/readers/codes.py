"""Codes: one row per patient and code. Letters: R rows, N patients, O codes of all patients."""

import numpy as np

from remind.data.cohort.contents import Codes
from remind.data.cohort.problems import Problem, listed
from remind.data.cohort.readers.wanted import Wanted, missing_words, patient_rows
from remind.data.cohort.schema import CodesSchema
from remind.data.cohort.sections import CodesSection
from remind.data.cohort.tabular import Source
from remind.data.cohort.text import Names, declared_text


def read_codes(source: Source, wanted: Wanted[CodesSection]) -> tuple[CodesSchema, Codes] | None:
    """Read the set of codes of each patient. A repeated code counts once; an empty code is ignored.

    Codes keep their spelling: the diagnosis 0101 is not 101, 250.00 is not 250.0. If there is a vocabulary, codes must
    be in it.
    """
    schema = _schema(wanted.name, wanted.section)
    patient_R = patient_rows(source, wanted)
    column = wanted.section.code
    if not source.has(column, f"{wanted.field}.code"):
        return None
    code_R, names = source.texts(column, Names(schema.vocabulary, exact=True))
    missing_words(source, wanted.name, column, "no code", "which counts as none")
    vocabulary = frozenset(schema.vocabulary)
    if vocabulary and (strangers := [name for name in names if name not in vocabulary]):
        bad_R = np.array([*(name not in vocabulary for name in names), False])[code_R]
        remedy = f"add it to {wanted.field}.vocabulary at all sites, or remove the row"
        source.report(f"codes that are not in the vocabulary: {listed(strangers)}", remedy, column, bad_R)
    if patient_R is None or wanted.position is None:
        return None
    known_R = (patient_R >= 0) & (code_R >= 0)
    ranked = sorted(names)
    rank = np.array([*np.argsort(np.argsort(np.array(names, dtype=np.str_))), 0], dtype=np.int64)
    pair_O2 = np.unique(np.stack([patient_R[known_R], rank[code_R[known_R]]], axis=1), axis=0)
    offsets_N1 = np.zeros(len(wanted.position) + 1, dtype=np.int64)
    np.cumsum(np.bincount(pair_O2[:, 0], minlength=len(wanted.position)), out=offsets_N1[1:])
    return schema, Codes(offsets_N1, pair_O2[:, 1], tuple(ranked))


def no_codes(name: str, section: CodesSection, n: int, problems: list[Problem]) -> tuple[CodesSchema, Codes]:
    """Codes that none of the n patients of this site has."""
    return _schema(name, section), Codes(np.zeros(n + 1, dtype=np.int64), np.empty(0, dtype=np.int64), ())


def _schema(name: str, section: CodesSection) -> CodesSchema:
    vocabulary = tuple(declared_text(code) for code in section.vocabulary or ())
    return CodesSchema(name=name, vocabulary=vocabulary, prefixes=tuple(sorted(set(section.prefixes))))
