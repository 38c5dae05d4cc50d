"""Writes a `Cohort` as a folder in the documented format (docs/cohorts.md); reading it gives an equal cohort."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from remind.data.cohort.cohort import SPLITS, Cohort
from remind.data.cohort.declaration import FILE_NAME
from remind.data.cohort.kind import Columns, kind_of
from remind.data.cohort.masks import Masks
from remind.data.synthetic.declare import declaration_text, persons_differ
from remind.errors import UserError


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
        _save(path / "patients.parquet", _patients(cohort, path))
        for schema in cohort.schema.modalities:
            data = cohort.modalities[schema.name]
            if data.present().any():  # otherwise cohort.toml declares it absent
                columns = kind_of(schema).columns(path, cohort.patient_id_N, schema, data)
                _save(path / f"{schema.name}.parquet", columns)
        (path / FILE_NAME).write_text(declaration_text(cohort), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}; name another folder") from None


def _save(path: Path, columns: Columns) -> None:
    pa.parquet.write_table(pa.table(columns), path)


def _patients(cohort: Cohort, folder: Path) -> Columns:
    predicts = cohort.schema.predicts
    labels = predicts.decode(cohort.label_N, cohort.target_NT)
    if isinstance(cohort.masks, Masks):
        (column,) = predicts.section.of(predicts).columns
        labels |= {column.name: cohort.masks.copied(folder)}
    columns: Columns = {"patient_id": cohort.patient_id_N.tolist(), **labels}
    if persons_differ(cohort):
        columns["person"] = cohort.person_N.tolist()
    if cohort.site_N is not None:
        columns["site"] = cohort.site_N.tolist()
    if cohort.split_N is not None:
        columns["split"] = np.array(SPLITS)[cohort.split_N].tolist()
    return columns
