"""Reads the patients file: the patients, their labels, hospitals and splits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.cohort import SPLITS, Text
from remind.data.cohort.declaration import CohortFile, SplitSection
from remind.data.cohort.kind import kind_of
from remind.data.cohort.problems import counted, listed
from remind.data.cohort.suspicious_texts import warn_of_spellings
from remind.data.cohort.tabular import Source
from remind.data.cohort.text import Names, declared_text, number_of
from remind.outcomes.base import Column, Encoded
from remind.suggest import did_you_mean

DEFAULT_SITE, DEFAULT_SPLIT = "site", "split"
MANY_VALUES = 4  # more different numbers than this that are not classes are a measurement


@dataclass(frozen=True)
class Patients:
    """The R rows of the patients file `file`.

    `label_R` is the stratum (of classes the class), −1 for a missing label; `target_RT` holds targets that strata do
    not tell; `starts` holds seconds, by column.
    """

    file: str
    id_R: Text
    person_R: Text
    label_R: NDArray[np.int64]
    site_R: Text | None
    split_R: NDArray[np.int8] | None
    starts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    target_RT: NDArray[np.float64] | None = None
    mask_R: NDArray[np.object_] | None = None

    def position(self) -> dict[str, int]:
        """Return the row of each patient.

        Positions stay below the number of rows even if a patient wrongly occurs twice.
        """
        return {patient: row for row, patient in enumerate(dict.fromkeys(self.id_R.tolist()))}


def read_patients(source: Source, declared: CohortFile, folder: Path = Path()) -> Patients | None:
    """Read the rows of the patients file and report every problem to the source.

    Returns None if the patients cannot be identified. Relative paths of masks start from `folder`.
    """
    section = declared.patients
    id_R = _ids(source, section.id)
    person_R = id_R if section.patient is None else _filled(source, section.patient, "patients.patient")
    labels = _labels(source, declared, folder)
    split_R = _splits(source, declared.split)
    if id_R is None:
        return None
    person_R = id_R if person_R is None else person_R
    if split_R is not None:
        _check_persons(source, person_R, split_R)
    starts = {column: source.seconds(column) for column in _starts(source, declared)}
    site_R = read_sites(source, section.site)
    label_R, target_RT, mask_R = labels.label_R, labels.target_RT, labels.file_R
    return Patients(source.file, id_R, person_R, label_R, site_R, split_R, starts, target_RT=target_RT, mask_R=mask_R)


def _starts(source: Source, declared: CohortFile) -> list[str]:
    """Return the columns from which modalities count their time."""
    fields: dict[str, str] = {}
    for name, section in declared.modalities.items():
        if (start := kind_of(section).start(section)) is not None:
            fields.setdefault(start, f"modalities.{name}.start")
    return [column for column, field_of in fields.items() if source.has(column, field_of)]


def read_sites(source: Source, column: str | None) -> Text | None:
    """Return the hospital of each row, (R,); None if the file has no site column and cohort.toml declares none."""
    if column is None and DEFAULT_SITE not in source.columns:
        return None
    site_R = _filled(source, column or DEFAULT_SITE, "patients.site")
    if site_R is not None:
        warn_of_spellings(source, "patients", np.unique(site_R).tolist(), "site")
    return site_R


def _filled(source: Source, column: str, field: str) -> Text | None:
    """Return the texts of a required column without gaps."""
    if not source.has(column, field):
        return None
    codes_R, names = source.texts(column)
    if (codes_R < 0).any():
        source.report("empty", "fill it in for every row", column, codes_R < 0)
    return np.array([*names, ""], dtype=np.str_)[codes_R]


def _ids(source: Source, column: str) -> Text | None:
    id_R = _filled(source, column, "patients.id")
    if id_R is not None:
        source.check_swallowed(column, np.unique(id_R).tolist())
        repeated_R = _repeats(id_R) & (id_R != "")
        if repeated_R.any():
            remedy = "keep one row each (visits need an id of their own, with patients.patient naming the person)"
            source.report("patient occurs more than once in the file", remedy, column, repeated_R)
    return id_R


def _repeats(texts_R: Text) -> NDArray[np.bool_]:
    """Return the rows whose text occurred in an earlier row."""
    again_R = np.ones(len(texts_R), dtype=bool)
    again_R[np.unique(texts_R, return_index=True)[1]] = False
    return again_R


def _labels(source: Source, declared: CohortFile, folder: Path) -> Encoded:
    section = declared.label
    arrays = [label_column(source, column, folder) for column in section.columns]
    found = section.outcome.encode([array for array, _ in arrays])
    for column, (_, empty_R) in zip(section.columns, arrays, strict=True):
        if section.missing == "error" and empty_R.any():
            remedy = 'fill it in, or set label.missing = "drop" to leave these patients out'
            source.report("no label", remedy, column.name, empty_R)
    return found


def label_column(source: Source, column: Column, folder: Path = Path()) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return a column of the label, and which rows are empty.

    It holds codes (R,) of names, numbers or paths, which start from `folder`; −1, NaN or None where a row is empty.
    """
    if column.paths:
        return _paths(source, column, folder)
    if not source.has(column.name, column.field):
        nothing = np.full(len(source), -1) if column.names else np.full(len(source), np.nan)
        return nothing, np.zeros(len(source), dtype=bool)
    return _numbers(source, column) if column.names is None else _codes(source, column, column.names)


def _paths(source: Source, column: Column, folder: Path) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    path_R = np.full(len(source), None, dtype=object)
    if not source.has(column.name, column.field):
        return path_R, np.zeros(len(source), dtype=bool)
    codes_R, names = source.texts(column.name)
    paths = [folder / Path(name).expanduser() for name in names]
    path_R[:] = [paths[code] if code >= 0 else None for code in codes_R]
    return path_R, codes_R < 0


def _numbers(source: Source, column: Column) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    value_R = source.numbers(column.name)
    low, high = (end if end is not None else sign * np.inf for end, sign in ((column.low, -1), (column.high, 1)))
    beyond_R = (value_R < low) | (value_R > high)
    if beyond_R.any():
        remedy = f"correct it, or change {column.bounds}"
        source.report(f"a number outside of {low:g} … {high:g}", remedy, column.name, beyond_R)
    return value_R, source.empty(column.name)


def _codes(source: Source, column: Column, known: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    classes = class_codes(known)
    codes_R, names = source.texts(column.name, Names(classes))
    unknown = [name not in classes for name in names]
    if any(unknown) and _continuous([name for name in names if name not in classes]):
        what = f"a number of many values ({len(names)} different ones), not a class"
        remedy = (
            f"with {column.names_field} only {listed(known)} can be in it: cut it into ranges, of which each is one of "
            f'{listed(known)}; or predict the number itself with kind = "regression" in [label]'
        )
        source.report(what, remedy, column.name, np.array([*unknown, False])[codes_R])
    elif any(unknown):
        accepted = f"{listed(known)}, or {'0 or 1' if len(known) == 2 else f'0 to {len(known) - 1}'}"
        bad_R = np.array([*unknown, False])[codes_R]
        remedy = f"use {accepted}, or change {column.names_field}{_meant(names, unknown, known)}"
        source.report("not a class", remedy, column.name, bad_R)
    return np.array([*(classes.get(name, -1) for name in names), -1], dtype=np.int64)[codes_R], codes_R < 0


def class_codes(classes: Sequence[str]) -> dict[str, int]:
    """Map each accepted text to its class: names, and also 0 … C − 1 if no name could be confused with a number."""
    names = {declared_text(name): code for code, name in enumerate(classes)}
    numbers = {str(code): code for code in range(len(classes))}
    return names if set(names) & set(numbers) else names | numbers


def _continuous(names: Sequence[str]) -> bool:
    """Return whether these values are a measurement and not classes under other names."""
    numbers = [number for name in names if (number := number_of(name)) is not None]
    return len(numbers) == len(names) > MANY_VALUES


def _splits(source: Source, section: SplitSection | None) -> NDArray[np.int8] | None:
    if section is None and DEFAULT_SPLIT not in source.columns:
        return None
    section = section or SplitSection()
    if not source.has(section.column, "split.column"):
        return None
    split_of = {declared_text(value): code for code, split in enumerate(SPLITS) for value in getattr(section, split)}
    codes_R, names = source.texts(section.column, Names(split_of))
    if (codes_R < 0).any():
        source.report("no split", "fill it in for every row", section.column, codes_R < 0)
    unknown = [name not in split_of for name in names]
    if any(unknown):
        remedy = f"use {listed(str(name) for name in split_of)}, or list it under train, validation or test in [split]"
        remedy += _meant(names, unknown, split_of)
        source.report("not a split", remedy, section.column, np.array([*unknown, False])[codes_R])
    split_R = np.array([*(split_of.get(name, 0) for name in names), 0], dtype=np.int8)[codes_R]
    if not (split_R == 0).any():
        source.report("no training patients", "list their value under train in [split]", section.column)
    return split_R


def _meant(names: Sequence[str], unknown: Sequence[bool], known: Iterable[str]) -> str:
    """Return a suggestion for the first unknown name; empty if no known one is similar."""
    return did_you_mean(next(name for name, is_new in zip(names, unknown, strict=True) if is_new), known)


def _check_persons(source: Source, person_R: Text, split_R: NDArray[np.int8]) -> None:
    """Report persons with visits in several parts of the split: the model would be tested on training persons."""
    names, person = np.unique(person_R, return_inverse=True)
    lowest, highest = np.full(len(names), 127, dtype=np.int8), np.zeros(len(names), dtype=np.int8)
    np.minimum.at(lowest, person, split_R)
    np.maximum.at(highest, person, split_R)
    if (divided := names[lowest < highest]).size:
        source.report(
            f"the split divides {counted(divided.size, 'person')}: {listed(divided, 3)}",
            "give all visits of a person one split",
        )
