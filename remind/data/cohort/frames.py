"""Patients in memory, as a DataFrame per modality, for a trained model."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from remind.data.cohort.declaration import CohortFile, PatientsSection
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
        volumes and videos ``path``. The patient's id is a column, or the index of the frame. Rows are a DataFrame, a
        list of ``{column: value}``, or ``{column: values}``; None: no patient has the modality.
    schema
        The model's.
    patients
        The patients in the desired order, with an optional column ``site``; None: all patients in `frames`, in the
        order of appearance. A patient without rows in any modality gets a reason instead of a prediction.
    key
        Name of the column of patients' ids.

    Raises
    ------
    UserError
        Modalities or columns are wrong; the error lists every problem.
    """
    problems: list[Problem] = []
    where = "tables in memory"
    if not isinstance(frames, Mapping):
        raise UserError(
            f"patients: a {type(frames).__name__}; give a cohort folder, or the tables by modality, such as "
            f"{{{schema.names[0]!r}: DataFrame}}; the model has {', '.join(schema.names)}"
        )
    frames = {str(name): rows for name, rows in frames.items() if rows is not None}
    for name in frames:
        if name not in schema.names:
            what, remedy = "the model knows no such modality", f"{suggest(name, schema.names)}; or leave it out"
            problems.append(Problem(where, what, remedy, column=name))
    files = {name: _file(name, rows, key, problems) for name, rows in frames.items() if name in schema.names}
    everybody = _file(PATIENTS, patients, key, problems) if patients is not None else _in_order(files.values(), key)
    sections = {modality.name: section_of(modality) for modality in schema.modalities}
    declared = CohortFile.model_construct(
        name=where,
        root=None,
        patients=PatientsSection(id=key),
        label=schema.predicts.section.of(schema.predicts),
        split=None,
        modalities=sections,
    )
    if key not in everybody.columns:
        Source(everybody.file, everybody.empty(), problems).has(key, "key")
    fitting = fit_files(declared, schema, {n: f for n, f in files.items() if n in schema.names}, problems)
    if problems:
        raise UserError("\n".join(["the model cannot be used on these tables", *shortened(problems)]))
    return NewPatients(where, schema, declared, Path(), everybody, fitting)


def _file(name: str, rows: Any, key: str, problems: list[Problem]) -> DataFile:
    frame = _frame(name, rows)
    if key not in frame.columns and frame.index.name == key:
        frame = frame.reset_index()
    frame.columns = [str(column) for column in frame.columns]
    repeated = frame.columns[frame.columns.duplicated()]
    problems += [
        Problem(name, "two columns have this name", "keep one of them", column=column)
        for column in dict.fromkeys(repeated)
    ]
    frame = frame.loc[:, ~frame.columns.duplicated()]
    return of_table(name, pa.table({column: _array(frame[column]) for column in frame.columns}))


def _frame(name: str, rows: Any) -> "pd.DataFrame":
    """Return rows as a new DataFrame.

    Raises
    ------
    UserError
        The rows are not a table.
    """
    import pandas as pd

    if isinstance(rows, pd.DataFrame):
        return rows.copy(deep=False)
    if callable(getattr(rows, "to_pandas", None)):  # polars, Arrow
        return pd.DataFrame(rows.to_pandas())
    remedy = "give a DataFrame, a list of {column: value}, or {column: values}"
    try:
        if isinstance(rows, Mapping):
            return pd.DataFrame(dict(rows))
        if isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
            return pd.DataFrame(list(rows))
    except (ValueError, TypeError) as error:  # columns of different lengths
        raise UserError(f"{name}: is no table: {error}; {remedy}") from None
    raise UserError(f"{name}: a {type(rows).__name__} is no table of patients; {remedy}")


def _array(values: Any) -> Any:
    """Return a column as Arrow has it; of mixed values, such as numbers and a text, their texts."""
    try:
        return pa.chunked_array([pa.Array.from_pandas(values)])
    except (pa.ArrowException, TypeError, ValueError):
        texts = [None if one is None or one != one else _text(one) for one in values]  # noqa: PLR0124  (NaN)
        return pa.chunked_array([pa.array(texts, pa.large_string())])


def _text(value: Any) -> str:
    """Return the text of a value; half of a surrogate pair, which no file can hold, as its escape."""
    return str(value).encode(errors="backslashreplace").decode()


def _in_order(files: Iterable[DataFile], key: str) -> DataFile:
    """Return all patients with rows, in the order of appearance."""
    ids: dict[str, None] = {}
    for file in files:
        if key in file.columns:
            for _, _, codes_R, names in file.texts_of(key):
                ids |= dict.fromkeys(names[code] for code in codes_R.tolist() if code >= 0)
    return of_table(PATIENTS, pa.table({key: pa.array(list(ids), pa.large_string())}))
