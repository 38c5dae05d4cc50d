"""The eICU Collaborative Research Database (docs/importing.md): stays in intensive care of many hospitals.

All times are offsets in minutes from the admission to the unit. Letters: N examples, R rows of a table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remind.data.cohort.problems import Problem
from remind.data.importers.common import (
    Summary,
    cells,
    cohort_folder,
    observations,
    write_declaration,
    write_table,
)
from remind.data.importers.eicu_items import APERIODIC, GENDERS, LABS, OLDEST, PERIODIC, Label
from remind.data.importers.release import (
    NUMBER,
    TEXT,
    WHOLE,
    Progress,
    ReleaseFile,
    find_file,
    open_file,
    silent,
    stop_at,
)
from remind.errors import UserError, several
from remind.outcomes.base import outcomes

DAY, HOUR = 1440.0, 60.0  # minutes
EDGES = (3.0, 4.0, 5.0, 7.0, 10.0, 14.0, 21.0)
STAY = "patientunitstayid"
PATIENT = {
    STAY: WHOLE,
    "uniquepid": TEXT,
    "hospitalid": WHOLE,
    "gender": TEXT,
    "age": TEXT,
    "unittype": TEXT,
    "hospitaladmitoffset": WHOLE,
    "unitdischargeoffset": WHOLE,
    "unitdischargestatus": TEXT,
    "hospitaldischargeoffset": WHOLE,
    "hospitaldischargestatus": TEXT,
}
FILES: dict[str, dict[str, Any]] = {
    "patient": PATIENT,
    "lab": {STAY: WHOLE, "labresultoffset": WHOLE, "labname": TEXT, "labresult": NUMBER},
    "vitalPeriodic": {STAY: WHOLE, "observationoffset": WHOLE, **dict.fromkeys(PERIODIC, NUMBER)},
    "vitalAperiodic": {STAY: WHOLE, "observationoffset": WHOLE, **dict.fromkeys(APERIODIC, NUMBER)},
    "diagnosis": {STAY: WHOLE, "diagnosisoffset": WHOLE, "diagnosisstring": TEXT},
}
Files = Mapping[str, ReleaseFile]
LeftOut = list[tuple[str, int]]
Written = tuple[dict[str, Any], dict[str, Any]]  # columns of a modality's file, and its fields of cohort.toml


@dataclass(frozen=True)
class EicuSettings:
    """What to import.

    Attributes
    ----------
    eicu
        Folder of the release.
    out
        The new cohort.
    label
        ``in-hospital``: death before the hospital is left; ``unit``: before the unit is left; ``length-of-stay``: days
        until the unit is left, a death censors.
    hours
        Hours from the admission to the unit that are read; the index time.
    first
        Take each person's first stay only, by the order of admissions to the hospital and in it.
    """

    eicu: Path
    out: Path
    label: Label
    hours: float = 24.0
    first: bool = False


def import_eicu(settings: EicuSettings, progress: Progress = silent) -> Summary:
    """Write a cohort with one example per stay; the site of a stay is its hospital.

    Raises
    ------
    UserError
        An option is not valid, files or columns are missing, or there is nothing to write.
    """
    if not 0 < settings.hours < float("inf"):
        raise UserError(f"--hours {settings.hours:g}: give hours, more than 0")
    with cohort_folder(settings.out) as folder:
        files = _open(settings.eicu, progress)
        left_out: LeftOut = []
        stays = _stays(files["patient"].frame(), settings, left_out)
        written: dict[str, Written] = {
            "person": _person(stays),
            "vitals": _vitals(files, stays, settings, left_out),
            "labs": _labs(files["lab"], stays, settings, left_out),
            "diagnoses": _diagnoses(files["diagnosis"], stays, settings),
        }
        presence_Nm = np.stack([stays[STAY].isin(set(c["patient_id"])).to_numpy() for c, _ in written.values()], axis=1)
        return _finish(folder, settings, stays, written, presence_Nm, left_out)


def _open(folder: Path, progress: Progress) -> Files:
    if not folder.is_dir():
        raise UserError(f"--eicu {folder}: no such folder; name the one that holds patient.csv.gz")
    problems: list[Problem] = []
    found = {
        stem: open_file(find_file(folder, stem, problems), types, problems, progress) for stem, types in FILES.items()
    }
    stop_at(problems, "eICU")
    return {stem: file for stem, file in found.items() if file is not None}


def _stays(patients: pd.DataFrame, settings: EicuSettings, left_out: LeftOut) -> pd.DataFrame:
    """Return the stays that are examples, ordered by id."""
    found = patients.dropna(subset=[STAY, "uniquepid", "hospitalid", "unitdischargeoffset"])
    left_out.append(("stays without a person, a hospital or an end", len(patients) - len(found)))
    if settings.first:
        ordered = found.sort_values(["uniquepid", "hospitaladmitoffset", STAY], ascending=[True, False, True])
        first = ordered.drop_duplicates("uniquepid")
        left_out.append(("later stays of a person", len(found) - len(first)))
        found = first
    over_N = found["unitdischargeoffset"] < settings.hours * HOUR
    left_out.append(("stays that ended before the index time", int(over_N.sum())))
    found = found[~over_N]
    status = found["hospitaldischargestatus" if settings.label == "in-hospital" else "unitdischargestatus"]
    unknown_N = ~status.isin(["Alive", "Expired"])
    left_out.append(("stays whose end is not known", int(unknown_N.sum())))
    kept = found[~unknown_N].assign(died=status[~unknown_N] == "Expired")
    if kept.empty:
        reasons = [f"{what}: {n}" for what, n in left_out if n] or ["the table patient has no rows"]
        raise several("no stay is left to predict; see --hours and --first", reasons)
    return kept.sort_values(STAY).reset_index(drop=True)


def _person(stays: pd.DataFrame) -> Written:
    age = pd.to_numeric(stays["age"].where(~stays["age"].fillna("").str.startswith(">"), str(OLDEST)), errors="coerce")
    gender = stays["gender"].map(GENDERS)
    unit = stays["unittype"]
    columns = {"patient_id": stays[STAY].tolist(), "age": cells(age), "gender": cells(gender), "unit": cells(unit)}
    known_N = (age.notna() | gender.notna() | unit.notna()).to_numpy()
    columns = {name: [v for v, known in zip(values, known_N, strict=True) if known] for name, values in columns.items()}
    levels = {"gender": tuple(GENDERS.values()), "unit": tuple(sorted(unit.dropna().unique()))}
    return columns, {"kind": "table", "columns": ("age", "gender", "unit"), "categories": levels}


def _vitals(files: Files, stays: pd.DataFrame, settings: EicuSettings, left_out: LeftOut) -> Written:
    parts, lost = [], 0
    for stem, items in (("vitalPeriodic", PERIODIC), ("vitalAperiodic", APERIODIC)):
        for rows in _known(files[stem], "observationoffset", stays, settings):
            for column, item in items.items():
                own = rows[rows[column].notna()]
                kept = own[own[column].between(item.low, item.high)]
                lost += len(own) - len(kept)
                parts.append(_observed(kept, "observationoffset", item.name, kept[column]))
    left_out.append(("vitals outside the bounds of their item", lost))
    names = dict.fromkeys(item.name for items in (PERIODIC, APERIODIC) for item in items.values())
    return _series(parts, tuple(names), settings.hours)


def _labs(file: ReleaseFile, stays: pd.DataFrame, settings: EicuSettings, left_out: LeftOut) -> Written:
    parts, lost, bounds = [], 0, pd.DataFrame([(n, b.name, b.low, b.high) for n, b in LABS.items()])
    bounds.columns = pd.Index(["labname", "item", "low", "high"])
    for rows in _known(file, "labresultoffset", stays, settings):
        own = rows[rows["labresult"].notna()].merge(bounds, on="labname")
        kept = own[(own["labresult"] >= own["low"]) & (own["labresult"] <= own["high"])]
        lost += len(own) - len(kept)
        parts.append(_observed(kept, "labresultoffset", kept["item"], kept["labresult"]))
    left_out.append(("labs outside the bounds of their item", lost))
    return _series(parts, tuple(dict.fromkeys(item.name for item in LABS.values())), settings.hours)


def _diagnoses(file: ReleaseFile, stays: pd.DataFrame, settings: EicuSettings) -> Written:
    """Diagnoses that were entered until the index time, by their path such as ``pulmonary|respiratory failure|…``."""
    parts = []
    ids, most = set(stays[STAY]), settings.hours * HOUR
    for batch in file.batches():
        rows = batch.to_pandas()
        rows = rows[rows[STAY].isin(ids) & (rows["diagnosisoffset"] <= most) & rows["diagnosisstring"].notna()]
        parts.append(rows[[STAY, "diagnosisstring"]])
    whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({STAY: [], "diagnosisstring": []})
    whole = whole.drop_duplicates().sort_values([STAY, "diagnosisstring"])
    return {"patient_id": whole[STAY].astype("int64").tolist(), "code": whole["diagnosisstring"].tolist()}, {
        "kind": "codes"
    }


def _known(file: ReleaseFile, offset: str, stays: pd.DataFrame, settings: EicuSettings) -> Iterator[pd.DataFrame]:
    """Yield rows of the stays between the admission to the unit and the index time."""
    ids = set(stays[STAY])
    for batch in file.batches():
        rows = batch.to_pandas()
        yield rows[rows[STAY].isin(ids) & rows[offset].between(0, settings.hours * HOUR)]


def _observed(rows: pd.DataFrame, offset: str, item: Any, value: Any) -> pd.DataFrame:
    return pd.DataFrame({"id": rows[STAY], "time": rows[offset] / HOUR, "item": item, "value": value})


def _series(parts: list[pd.DataFrame], items: tuple[str, ...], hours: float) -> Written:
    return observations(parts), {"kind": "series", "items": items, "horizon": float(hours)}


def _finish(
    folder: Path,
    settings: EicuSettings,
    stays: pd.DataFrame,
    written: Mapping[str, Written],
    presence_Nm: NDArray[np.bool_],
    left_out: LeftOut,
) -> Summary:
    keep_N = np.asarray(presence_Nm.any(axis=1))
    left_out.append(("stays without any of the modalities", int((~keep_N).sum())))
    if not keep_N.any():
        raise UserError(f"--eicu {settings.eicu}: no stay has any modality; check that all files are of one release")
    kept = stays[keep_N]
    columns: dict[str, Any] = {"patient_id": kept[STAY].tolist(), "person": kept["uniquepid"].tolist()}
    if settings.label == "length-of-stay":
        given: dict[str, Any] = {"kind": "survival", "events": ("died", "left"), "edges": EDGES, "unit": "days"}
        columns["time"] = (kept["unitdischargeoffset"] / DAY).tolist()
        columns["event"] = ["died" if died else "left" for died in kept["died"]]
        codes = [np.array(columns["time"]), (~kept["died"]).to_numpy().astype(np.int64)]
    else:
        given = {"classes": ("no", "yes")}
        columns["label"] = ["yes" if died else "no" for died in kept["died"]]
        codes = [kept["died"].to_numpy().astype(np.int64)]
    section = outcomes()[str(given.get("kind", "classes"))].section.model_validate(given)
    columns["site"] = [f"hospital {number}" for number in kept["hospitalid"].astype("int64")]
    write_table(folder, "patients", columns)
    sections = {}
    for (name, (content, fields)), has_N in zip(written.items(), presence_Nm.T, strict=True):
        if has_N.any():
            write_table(folder, name, content)
        sections[name] = fields if has_N.any() else fields | {"absent": True}
    comments = [
        "Written by: remind data import eicu. One example is one stay in a unit, a person may have several.",
        f"Label {settings.label}, index time {settings.hours:g} hours after the admission to the unit.",
    ]
    strata = section.outcome.strata
    label = section.model_dump(mode="json", exclude_defaults=True)
    write_declaration(folder, f"eicu-{settings.label}", strata, sections, comments, label=label)
    return Summary(
        folder=settings.out,
        modalities=tuple(written),
        classes=strata,
        presence_Nm=presence_Nm[keep_N],
        label_N=section.outcome.encode(codes).label_R,
        persons=kept["uniquepid"].nunique(),
        left_out=tuple(left_out),
        remarks=(f"{kept['hospitalid'].nunique()} hospitals are the sites",),
    )
