"""A `Cohort` as a folder in the documented format (docs/cohorts.md), from which it reads back equal."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from remind.data.cohort import SPLITS, Cohort, Series, Table, Text
from remind.data.declaration import FILE_NAME
from remind.data.schema import SeriesSchema, TableSchema
from remind.errors import UserError


def write_cohort(cohort: Cohort, folder: str | Path) -> None:
    """Write ``cohort.toml``, ``patients.parquet`` and one .parquet per modality.

    Parameters
    ----------
    folder
        Made if need be; it must be empty, so that nothing of an older cohort is read along.

    Raises
    ------
    UserError
        The folder holds something, or cannot be written.
    """
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UserError(f"{path}: not empty; name a new folder for the cohort")
        _save(path / "patients.parquet", _patients(cohort))
        for schema in cohort.schema.modalities:
            data = cohort.modalities[schema.name]
            if not data.present().any():
                continue  # declared absent
            if isinstance(schema, TableSchema) and isinstance(data, Table):
                _save(path / f"{schema.name}.parquet", _table(cohort.patient_id_N, schema, data))
            elif isinstance(schema, SeriesSchema) and isinstance(data, Series):
                _save(path / f"{schema.name}.parquet", _series(cohort.patient_id_N, schema, data))
        (path / FILE_NAME).write_text(_declaration(cohort), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; name another folder") from None


def _save(path: Path, columns: dict[str, Any]) -> None:
    pa.parquet.write_table(pa.table(columns), path)


def _persons_differ(cohort: Cohort) -> bool:
    return not np.array_equal(cohort.person_N, cohort.patient_id_N)


def _patients(cohort: Cohort) -> dict[str, Any]:
    names = np.array(cohort.schema.classes, dtype=np.str_)
    columns = {"patient_id": cohort.patient_id_N.tolist(), "label": names[cohort.label_N].tolist()}
    if _persons_differ(cohort):
        columns["person"] = cohort.person_N.tolist()
    if cohort.site_N is not None:
        columns["site"] = cohort.site_N.tolist()
    if cohort.split_N is not None:
        columns["split"] = np.array(SPLITS)[cohort.split_N].tolist()
    return columns


def _table(patient_id_N: Text, schema: TableSchema, data: Table) -> dict[str, Any]:
    has_N = data.present()
    columns: dict[str, Any] = {"patient_id": patient_id_N[has_N].tolist()}
    for i, column in enumerate(schema.columns):
        values = data.values_NF[has_N, i]
        if levels := schema.categories.get(column):
            columns[column] = pa.array([None if np.isnan(v) else levels[int(v)] for v in values], pa.string())
        else:
            columns[column] = pa.array(values, pa.float32(), from_pandas=True)  # NaN as an empty cell
    return columns


def _series(patient_id_N: Text, schema: SeriesSchema, data: Series) -> dict[str, Any]:
    return {
        "patient_id": np.repeat(patient_id_N, np.diff(data.offsets_N1)).tolist(),
        "time": data.time_O,
        "item": pa.DictionaryArray.from_arrays(data.item_O.astype(np.int32), list(schema.items)),
        "value": data.value_O,
    }


def _declaration(cohort: Cohort) -> str:
    """The text of cohort.toml: all that the schema holds is declared."""
    person = ['patient = "person"'] if _persons_differ(cohort) else []
    lines = [f"name = {_toml(cohort.schema.name)}", "", "[patients]", 'id = "patient_id"', *person]
    lines += ["", "[label]", f"classes = {_toml(cohort.schema.classes)}"]
    for schema in cohort.schema.modalities:
        lines += ["", f"[modalities.{schema.name}]", f'kind = "{schema.kind}"']
        if not cohort.modalities[schema.name].present().any():
            lines.append("absent = true  # of nobody here; declared because other sites have it")
        if isinstance(schema, TableSchema):
            lines += [f"columns = {_toml(schema.columns)}", f"standardise = {_toml(schema.standardise)}"]
            options = {"categories": schema.categories, "mean": schema.mean, "std": schema.std}
            lines += [f"{option} = {_toml(value)}" for option, value in options.items() if value]
        else:
            lines += ['time_unit = "hour"', f"items = {_toml(schema.items)}", f"horizon = {schema.horizon_hours!r}"]
    return "\n".join([*lines, ""])


def _toml(value: Any) -> str:
    """A value as TOML; its strings are JSON's."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(v)}" for key, v in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
