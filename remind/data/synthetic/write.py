"""Writes a `Cohort` as a folder in the documented format (docs/cohorts.md); reading it gives an equal cohort."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from remind.data.cohort.cohort import SPLITS, Cohort, Text
from remind.data.cohort.contents import Codes, Files, Series, Table, Texts
from remind.data.cohort.declaration import FILE_NAME
from remind.data.cohort.schema import (
    CodesSchema,
    ImageSchema,
    ModalitySchema,
    SeriesSchema,
    TableSchema,
    TextSchema,
    VolumeSchema,
)
from remind.data.files import Unreadable, read_note
from remind.data.synthetic.declare import declaration_text, persons_differ
from remind.errors import UserError

Columns = dict[str, Any]


def write_cohort(cohort: Cohort, folder: str | Path) -> None:
    """Write ``cohort.toml``, ``patients.parquet``, one .parquet per modality, and a folder of files for pictures.

    Pictures in memory are written as PNG if PNG is lossless for them, else as .npy. Files are copied, so that the
    cohort
    does not depend on other folders. File names are numbers, because a patient's id may not be a valid file name.

    Parameters
    ----------
    folder
        Created if it does not exist. It must be empty, so that no file of an older cohort is read with the new ones.

    Raises
    ------
    UserError
        The folder is not empty or cannot be written, or a file of the cohort can no longer be read.
    """
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise UserError(f"{path}: not empty; name a new folder for the cohort")
        _save(path / "patients.parquet", _patients(cohort))
        for schema in cohort.schema.modalities:
            data = cohort.modalities[schema.name]
            if data.present().any():  # otherwise cohort.toml declares it absent
                _save(path / f"{schema.name}.parquet", _COLUMNS[type(schema)](path, cohort.patient_id_N, schema, data))
        (path / FILE_NAME).write_text(declaration_text(cohort), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; name another folder") from None


def _save(path: Path, columns: Columns) -> None:
    pa.parquet.write_table(pa.table(columns), path)


def _patients(cohort: Cohort) -> Columns:
    names = np.array(cohort.schema.classes, dtype=np.str_)
    columns = {"patient_id": cohort.patient_id_N.tolist(), "label": names[cohort.label_N].tolist()}
    if persons_differ(cohort):
        columns["person"] = cohort.person_N.tolist()
    if cohort.site_N is not None:
        columns["site"] = cohort.site_N.tolist()
    if cohort.split_N is not None:
        columns["split"] = np.array(SPLITS)[cohort.split_N].tolist()
    return columns


def _table(folder: Path, patient_id_N: Text, schema: TableSchema, data: Table) -> Columns:
    has_N = data.present()
    columns: Columns = {"patient_id": patient_id_N[has_N].tolist()}
    for i, column in enumerate(schema.columns):
        values = data.values_NF[has_N, i]
        if levels := schema.categories.get(column):
            columns[column] = pa.array([None if np.isnan(v) else levels[int(v)] for v in values], pa.string())
        else:
            columns[column] = pa.array(values, pa.float32(), from_pandas=True)  # NaN becomes an empty cell
    return columns


def _series(folder: Path, patient_id_N: Text, schema: SeriesSchema, data: Series) -> Columns:
    return {
        "patient_id": np.repeat(patient_id_N, np.diff(data.offsets_N1)).tolist(),
        "time": data.time_O,
        "item": pa.DictionaryArray.from_arrays(data.item_O.astype(np.int32), list(schema.items)),
        "value": data.value_O,
    }


def _codes(folder: Path, patient_id_N: Text, schema: CodesSchema, data: Codes) -> Columns:
    return {
        "patient_id": np.repeat(patient_id_N, np.diff(data.offsets_N1)).tolist(),
        "code": pa.DictionaryArray.from_arrays(data.code_O.astype(np.int32), list(data.names)),
    }


def _notes(folder: Path, patient_id_N: Text, schema: TextSchema, data: Texts) -> Columns:
    has_N = data.present()
    return {
        "patient_id": patient_id_N[has_N].tolist(),
        "text": [_note(source) if isinstance(source, Path) else source for source in data.source_N[has_N]],
    }


def _note(path: Path) -> str:
    try:
        return read_note(path)
    except Unreadable as error:
        raise UserError(f"{path}: {error}") from None


def _pictures(folder: Path, patient_id_N: Text, schema: ImageSchema | VolumeSchema, data: Files) -> Columns:
    (folder / schema.name).mkdir()
    having = np.flatnonzero(data.present())
    flat = isinstance(schema, ImageSchema)
    paths = [_picture(folder, f"{schema.name}/{i:06d}", data.source_N[i], flat) for i in having]
    return {"patient_id": patient_id_N[having].tolist(), "path": paths}


def _picture(folder: Path, stem: str, source: Any, flat: bool) -> str:
    """Write one picture (`flat`) or a stack; return its path relative to the cohort's folder."""
    if isinstance(source, Path):
        if not source.exists():
            raise UserError(f"{source}: no such file; it was there when the cohort was read, put it back")
        path = stem + "".join(source.suffixes[-2:])  # the suffix .nii.gz has two parts
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, folder / path)
    elif flat and source.dtype == np.uint8:
        from PIL import Image

        path = f"{stem}.png"
        Image.fromarray(source).save(folder / path)
    else:
        path = f"{stem}.npy"
        np.save(folder / path, source, allow_pickle=False)
    return path


_COLUMNS: dict[type[ModalitySchema], Callable[[Path, Text, Any, Any], Columns]] = {
    TableSchema: _table,
    SeriesSchema: _series,
    ImageSchema: _pictures,
    VolumeSchema: _pictures,
    TextSchema: _notes,
    CodesSchema: _codes,
}
