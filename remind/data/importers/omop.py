"""An OMOP CDM (version 5.3 or 5.4) exported to .csv files, and a mapping file (docs/importing.md).

Tables that the mapping does not use need not be there. Times are those of the columns ``…_datetime`` where these exist
and are filled, else the beginning of the date; of a death, its end.
"""

from collections.abc import Mapping as MappingType
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remind.data.cohort.problems import Problem
from remind.data.importers import omop_modalities as modalities
from remind.data.importers.common import Summary, cohort_folder, write_declaration, write_table
from remind.data.importers.omop_mapping import Mapping, read_mapping
from remind.data.importers.omop_visits import LeftOut, discharged, find_visits, outcome_of
from remind.data.importers.release import (
    TEXT,
    TIME,
    WHOLE,
    Progress,
    ReleaseFile,
    find_file,
    open_file,
    silent,
    stop_at,
)
from remind.errors import UserError

VISITS = {
    "visit_occurrence_id": WHOLE,
    "person_id": WHOLE,
    "visit_concept_id": WHOLE,
    "visit_start_date": TIME,
    "visit_end_date": TIME,
}
DEATH = {"person_id": WHOLE, "death_date": TIME}
OPTIONAL = {
    "visit_occurrence": ("visit_start_datetime", "visit_end_datetime"),
    "death": ("death_datetime",),
    "measurement": ("unit_concept_id",),
    "drug_exposure": ("drug_exposure_start_datetime",),
    "note": ("note_datetime",),
}
Files = MappingType[str, ReleaseFile]


@dataclass(frozen=True)
class OmopSettings:
    """What `remind data import omop` reads and writes: a folder with a file per table, the mapping, the new cohort."""

    cdm: Path
    mapping: Path
    out: Path


def import_omop(settings: OmopSettings, progress: Progress = silent) -> Summary:
    """Write a cohort with one example per visit.

    Raises
    ------
    UserError
        The mapping is not valid, tables or columns are missing, or there is nothing to write.
    """
    mapping = read_mapping(settings.mapping)
    with cohort_folder(settings.out) as folder:
        files = _open(settings.cdm, mapping, progress)
        left_out: LeftOut = []
        visits, died = _visits(files["visit_occurrence"], mapping.visits.sites), _deaths(files.get("death"))
        examples = find_visits(visits, died, mapping.visits, left_out)
        able_N = discharged(mapping.label, examples)
        left_out.append(("visits that ended with death, after which nobody returns", int((~able_N).sum())))
        examples = examples[able_N].reset_index(drop=True)
        written = {
            name: modalities.write(folder, name, one, files, examples, left_out)
            for name, one in mapping.modalities.items()
        }
        presence_Nm = np.stack([has_N for has_N, _ in written.values()], axis=1)
        keep_N = np.asarray(presence_Nm.any(axis=1))
        left_out.append(("visits without any of the modalities", int((~keep_N).sum())))
        if not keep_N.any():
            raise UserError(f"--mapping {settings.mapping}: no visit has any of its modalities; check the concepts")
        return _finish(
            folder, settings, mapping, files, visits, examples[keep_N], presence_Nm[keep_N], written, left_out
        )


def _open(cdm: Path, mapping: Mapping, progress: Progress) -> Files:
    """Open every table that is needed before any of them is read."""
    if not cdm.is_dir():
        raise UserError(f"--cdm {cdm}: no such folder; name the one that holds a .csv of each table")
    wanted: dict[str, dict[str, Any]] = {"visit_occurrence": dict(VISITS)}
    if mapping.visits.sites:
        wanted["visit_occurrence"][mapping.visits.sites] = TEXT
    if mapping.label.kind in ("death", "death-later"):
        wanted["death"] = dict(DEATH)
    if mapping.label.kind == "conditions":
        wanted["condition_occurrence"] = dict(modalities.COLUMNS["condition_occurrence"])
    for one in mapping.modalities.values():
        wanted.setdefault(one.table, dict(modalities.COLUMNS[one.table]))
    if "death" not in wanted and any((cdm / f"death{end}").is_file() for end in (".csv", ".csv.gz")):
        wanted["death"] = dict(DEATH)
    files: dict[str, ReleaseFile] = {}
    problems: list[Problem] = []
    for table, types in wanted.items():
        file = open_file(find_file(cdm, table, problems), types, problems, progress)
        if file is not None:
            more = {c: WHOLE if c.endswith("_id") else TIME for c in OPTIONAL.get(table, ()) if c in file.names}
            files[table] = ReleaseFile(file.path, file.names, {**file.types, **more}, progress)
    stop_at(problems, "an OMOP CDM")
    return files


def _visits(file: ReleaseFile, sites: str) -> pd.DataFrame:
    table = file.frame()
    found = pd.DataFrame(
        {
            "id": table["visit_occurrence_id"],
            "person": table["person_id"],
            "concept": table["visit_concept_id"],
            "start": modalities.times(table, "visit_start_datetime", "visit_start_date"),
            "end": modalities.times(table, "visit_end_datetime", "visit_end_date"),
        }
    )
    if sites:
        found["site"] = table[sites].fillna("unknown")
    return found


def _deaths(file: ReleaseFile | None) -> "pd.Series[Any]":
    """Return the time of death by person: the end of the day where only the date is known."""
    if file is None:
        return pd.Series(dtype="datetime64[s]")
    table = file.frame().dropna(subset=["person_id", "death_date"])
    last = table["death_date"] + pd.Timedelta(days=1) - pd.Timedelta(seconds=1)
    if "death_datetime" in table:
        known = table["death_datetime"]
        last = known.where(known.notna() & (known != known.dt.normalize()), last)
    return last.groupby(table["person_id"]).min()


def _finish(
    folder: Path,
    settings: OmopSettings,
    mapping: Mapping,
    files: Files,
    visits: pd.DataFrame,
    kept: pd.DataFrame,
    presence_Nm: NDArray[np.bool_],
    written: MappingType[str, tuple[NDArray[np.bool_], dict[str, Any]]],
    left_out: LeftOut,
) -> Summary:
    """Write the patients and cohort.toml."""
    outcome = outcome_of(mapping.label, kept, visits, mapping.visits, modalities.conditions_of(files, kept))
    columns: dict[str, Any] = {"patient_id": kept["id"].tolist(), "person": kept["person"].tolist(), **outcome.columns}
    if mapping.visits.sites:
        columns["site"] = kept["site"].tolist()
    write_table(folder, "patients", columns)
    sections = {}
    for name, (has_N, fields) in written.items():
        sections[name] = fields if has_N.any() else fields | {"absent": True}
        if not has_N.any():
            (folder / f"{name}.parquet").unlink(missing_ok=True)
    own = outcome.section.outcome
    comments = [
        "Written by: remind data import omop. One example is one visit, a person may have several.",
        f"Outcome {mapping.label.kind}, index time {mapping.visits.hours:g} hours after the visit's start.",
    ]
    label = outcome.section.model_dump(mode="json", exclude_defaults=True)
    write_declaration(folder, mapping.name, own.strata, sections, comments, label=label)
    return Summary(
        folder=settings.out,
        modalities=tuple(written),
        classes=own.strata,
        presence_Nm=presence_Nm,
        label_N=outcome.strata(),
        persons=kept["person"].nunique(),
        left_out=tuple(left_out),
    )
