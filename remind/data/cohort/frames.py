"""Patients in memory, as a DataFrame per modality, for a trained model."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from remind.data.cohort.declaration import CohortFile, LabelSection, PatientsSection
from remind.data.cohort.fit import fit_files, section_of
from remind.data.cohort.new_patients import NewPatients
from remind.data.cohort.problems import Problem, shortened, suggest
from remind.data.cohort.rows import DataFile, of_table
from remind.data.cohort.schema import CohortSchema
from remind.data.cohort.tabular import Source
from remind.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

ID, SITE, PATIENTS = "patient_id", "site", "patients"
Rows = "pd.DataFrame | Sequence[Mapping[str, Any]]"


def from_frames(
    frames: Mapping[str, "pd.DataFrame | Sequence[Mapping[str, Any]]"],
    schema: CohortSchema,
    patients: "pd.DataFrame | Sequence[Mapping[str, Any]] | None" = None,
    key: str = ID,
) -> NewPatients:
    """Take patients from tables in memory.

    Parameters
    ----------
    frames
        Modality → its rows, with the columns that the modality's file has in a cohort folder: of a table, the model's
        columns; of a series ``time`` (hours), ``item``, ``value``; of codes ``code``; of notes ``text``; of images,
        volumes and videos ``path``. The patient's id is a column, or the index of the frame.
    schema
        The model's.
    patients
        The patients in the order wanted, with an optional column ``site``; None: everybody in `frames`, in the order
        of appearance. A patient without rows in any modality gets no prediction, and a reason.
    key
        Name of the column of patients' ids.

    Raises
    ------
    UserError
        Names everything that is wrong with the modalities and columns.
    """
    problems: list[Problem] = []
    where = "tables in memory"
    for name in frames:
        if name not in schema.names:
            what, remedy = "the model knows no such modality", f"{suggest(name, schema.names)}; or leave it out"
            problems.append(Problem(where, what, remedy, column=name))
    files = {name: _file(name, rows, key) for name, rows in frames.items() if name in schema.names}
    everybody = _file(PATIENTS, patients, key) if patients is not None else _in_order(files.values(), key)
    sections = {modality.name: section_of(modality) for modality in schema.modalities}
    declared = CohortFile.model_construct(
        name=where,
        root=None,
        patients=PatientsSection(id=key),
        label=LabelSection(classes=schema.classes),
        split=None,
        modalities=sections,
    )
    if key not in everybody.columns:
        Source(everybody.file, everybody.empty(), problems).has(key, "key")
    fitting = fit_files(declared, schema, {n: f for n, f in files.items() if n in schema.names}, problems)
    if problems:
        raise UserError("\n".join(["the model cannot be used on these tables", *shortened(problems)]))
    return NewPatients(where, schema, declared, Path(), everybody, fitting)


def _file(name: str, rows: Any, key: str) -> DataFile:
    import pandas as pd

    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    if key not in frame.columns and frame.index.name == key:
        frame = frame.reset_index()
    return of_table(name, pa.table({str(column): _array(frame[column]) for column in frame.columns}))


def _array(values: Any) -> Any:
    """Return a column as Arrow has it; of mixed values, such as numbers and a text, their texts."""
    try:
        return pa.chunked_array([pa.Array.from_pandas(values)])
    except (pa.ArrowException, TypeError, ValueError):
        texts = [None if one is None or one != one else str(one) for one in values]  # noqa: PLR0124  (NaN)
        return pa.chunked_array([pa.array(texts, pa.large_string())])


def _in_order(files: Iterable[DataFile], key: str) -> DataFile:
    """Return everybody who has rows, in the order of appearance."""
    ids: dict[str, None] = {}
    for file in files:
        if key in file.columns:
            for _, _, codes_R, names in file.texts_of(key):
                ids |= dict.fromkeys(names[code] for code in codes_R.tolist() if code >= 0)
    return of_table(PATIENTS, pa.table({key: pa.array(list(ids), pa.large_string())}))
