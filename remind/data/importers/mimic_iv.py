"""MIMIC-IV with its notes (docs/importing.md): clinical text, labs and vitals, diagnoses; outcomes of stays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remind.data.cohort.problems import Problem, listed
from remind.data.importers import mimic_codes, mimic_labs, mimic_notes, mimic_phenotypes, mimic_stays
from remind.data.importers.common import Summary, cohort_folder, write_declaration, write_table
from remind.data.importers.mimic_items import CHART, ITEMS, LAB, Item, read_items
from remind.data.importers.mimic_phenotypes import Phenotypes
from remind.data.importers.mimic_settings import MimicSettings
from remind.data.importers.mimic_stays import CLASSES, LeftOut, Stays
from remind.data.importers.release import Progress, ReleaseFile, find_file, open_file, silent, stop_at
from remind.errors import UserError, several
from remind.outcomes.base import LabelSection, outcomes

Files = Mapping[str, ReleaseFile]
EDGES = (3.0, 4.0, 5.0, 7.0, 10.0, 14.0, 21.0, 30.0)  # days of length-of-stay
Fields = dict[str, Any]  # the fields of a modality's section in cohort.toml
Modality = tuple[NDArray[np.bool_], Fields]  # which examples have it, (N,), and its fields


def import_mimic(settings: MimicSettings, progress: Progress = silent) -> Summary:
    """Write a cohort with one example per stay.

    Raises
    ------
    UserError
        Options contradict each other, files or columns are missing, or there is nothing to write.
    """
    settings.check()
    items = read_items(settings.items) if settings.items else ITEMS
    rules = mimic_phenotypes.read_phenotypes(settings.phenotypes) if settings.phenotypes else ()
    with cohort_folder(settings.out) as folder:
        files = _open(settings, progress)
        remarks = _check_items(settings, items, files)
        admissions = files["admissions"].frame()
        stays, left_out = _stays(settings, files, admissions, remarks)
        phenotypes = None
        if rules:
            stays, phenotypes = _phenotypes(rules, files, stays, left_out, remarks)
        before = mimic_notes.earlier_admissions(admissions, stays)
        modalities: dict[str, Modality] = {}
        if settings.note:
            modalities["notes"] = _notes(folder, settings, files, stays, before, left_out)
        modalities["labs"] = _labs(folder, settings, files, items, stays, left_out, remarks)
        modalities["codes"] = _codes(folder, settings, files, stays, before)
        return _finish(folder, settings, stays, modalities, left_out, remarks, phenotypes)


def _open(settings: MimicSettings, progress: Progress) -> Files:
    """Open every required file before any of them is read."""
    tables: dict[Path, dict[str, Mapping[str, Any]]] = {
        settings.hosp: {
            "patients": mimic_stays.PATIENTS,
            "admissions": mimic_stays.ADMISSIONS,
            "diagnoses_icd": mimic_codes.DIAGNOSES,
            LAB: mimic_labs.EVENTS,
            "d_labitems": mimic_labs.DICTIONARY,
        }
    }
    if settings.as_text:
        tables[settings.hosp]["d_icd_diagnoses"] = mimic_codes.TITLES
    if settings.icu:
        icu = {"icustays": mimic_stays.ICU_STAYS, CHART: mimic_labs.EVENTS, "d_items": mimic_labs.DICTIONARY}
        tables[settings.icu] = {**tables.get(settings.icu, {}), **icu}
    if settings.note:
        names = mimic_notes.needed_files(settings.notes_rule)
        tables[settings.note] = {**tables.get(settings.note, {}), **dict.fromkeys(names, mimic_notes.NOTES)}
    files: dict[str, ReleaseFile] = {}
    problems: list[Problem] = []
    for folder, wanted in tables.items():
        if not folder.is_dir():
            problems.append(Problem(str(folder), "no such folder", f"name the one that holds {listed(wanted)}"))
            continue
        for stem, types in wanted.items():
            path = find_file(folder, stem, problems)
            if (file := open_file(path, types, problems, progress)) is not None:
                files[stem] = file
    stop_at(problems, "MIMIC-IV")
    return files


def _check_items(settings: MimicSettings, items: tuple[Item, ...], files: Files) -> list[str]:
    """Check items that the release does not list: an error if the user gave the list, else a remark."""
    unknown = []
    for table in (LAB, CHART):
        if table in files:
            unknown += mimic_labs.unknown_items(items, table, files[mimic_labs.DICTIONARIES[table]])
    if not unknown:
        return []
    names = listed(f"{itemid} ({item.name})" for item, itemid in unknown)
    if settings.items:
        raise UserError(f"--items {settings.items}: the release has no item {names}; put the item ids right")
    return [f"this release has no item {names}"]


def _stays(
    settings: MimicSettings, files: Files, admissions: pd.DataFrame, remarks: list[str]
) -> tuple[Stays, LeftOut]:
    patients = files["patients"].frame()
    icu = files["icustays"].frame() if settings.icu else None
    stays, left_out = mimic_stays.find_stays(patients, admissions, icu, settings.label, settings.hours, settings.first)
    if not len(stays):
        raise several("no stay is left to predict", (f"{what}: {n}" for what, n in left_out if n))
    if not mimic_stays.knows_later_deaths(patients, admissions):
        remarks.append(
            "no death outside the hospital is recorded, as in versions of MIMIC-IV before 2.0: a patient who left the "
            "hospital counts as alive"
        )
    return stays, left_out


def _phenotypes(
    rules: Sequence[mimic_phenotypes.Rule], files: Files, stays: Stays, left_out: LeftOut, remarks: list[str]
) -> tuple[Stays, Phenotypes]:
    """Return the stays whose admissions have any diagnosis code, and which phenotypes these codes are of."""
    own = mimic_codes.wanted_codes("this", stays, pd.DataFrame())
    found = mimic_codes.find_codes(files["diagnoses_icd"], own)
    coded_N = found.present(len(stays))
    what = "stays of admissions without a diagnosis code: their phenotypes are not known"
    left_out.append((what, int((~coded_N).sum())))
    if not coded_N.any():
        raise UserError("no stay has a diagnosis code; check that all folders are of one release")
    phenotypes, idle = mimic_phenotypes.phenotypes_of(rules, found, len(stays))
    remarks += idle
    return stays.take(coded_N), phenotypes.take(coded_N)


def _notes(
    folder: Path, settings: MimicSettings, files: Files, stays: Stays, before: pd.DataFrame, left_out: LeftOut
) -> Modality:
    wanted = mimic_notes.wanted_notes(settings.notes_rule, stays, before)
    found = {name: files[name] for name in wanted}
    has_N, late = mimic_notes.write_notes(folder / "notes.parquet", found, wanted, stays)
    left_out.append(("notes that were stored after the index time, or at no known time", late))
    return has_N, {"kind": "text", "order": "hours_before"}


def _labs(
    folder: Path,
    settings: MimicSettings,
    files: Files,
    items: tuple[Item, ...],
    stays: Stays,
    left_out: LeftOut,
    remarks: list[str],
) -> Modality:
    path, tally = folder / "labs.parquet", mimic_labs.Tally()
    tables = {table: files[table] for table in (LAB, CHART) if table in files}
    parts = mimic_labs.all_observations(tables, items, stays, tally, folder)
    if settings.as_text:
        has_N = mimic_labs.write_sentences(path, parts, items, stays, settings.hours, settings.text_hours)
        fields: Fields = {"kind": "text"}
    else:
        has_N = mimic_labs.write_series(path, parts, items, stays)
        names = tuple(item.name for item in items if any(source.table in tables for source in item.sources))
        fields = {"kind": "series", "items": names, "horizon": float(settings.hours)}
    left_out += tally.left_out()  # counted while the modalities were written
    remarks += tally.remarks
    return has_N, fields


def _codes(folder: Path, settings: MimicSettings, files: Files, stays: Stays, before: pd.DataFrame) -> Modality:
    pairs = mimic_codes.wanted_codes(settings.codes_rule, stays, before)
    found = mimic_codes.find_codes(files["diagnoses_icd"], pairs)
    fields: Fields = {"kind": "text"} if settings.as_text else {"kind": "codes", "prefixes": (mimic_codes.PREFIX,)}
    if settings.as_text:
        mimic_codes.write_titles(folder, "codes", found, stays, files["d_icd_diagnoses"])
    else:
        mimic_codes.write_codes(folder, "codes", found, stays)
    return found.present(len(stays)), fields


def _finish(
    folder: Path,
    settings: MimicSettings,
    stays: Stays,
    modalities: dict[str, Modality],
    left_out: LeftOut,
    remarks: list[str],
    phenotypes: Phenotypes | None,
) -> Summary:
    """Write the patients and cohort.toml."""
    presence_Nm = np.stack([has_N for has_N, _ in modalities.values()], axis=1)
    keep_N = np.asarray(presence_Nm.any(axis=1))
    if not keep_N.any():
        raise UserError("no stay has notes, labs or codes; check that all folders are of one release")
    left_out.append(("stays without any of the modalities", int((~keep_N).sum())))
    sections = {}
    for name, (has_N, fields) in modalities.items():
        sections[name] = fields
        if not has_N.any():
            (folder / f"{name}.parquet").unlink()
            sections[name] = {key: value for key, value in fields.items() if key != "order"} | {"absent": True}
    kept = stays.take(keep_N)
    known = None if phenotypes is None else phenotypes.take(keep_N)
    section, targets = _outcome(settings, kept, known)
    remarks += known.remarks() if known else []
    columns: dict[str, Any] = {"patient_id": kept.id_N, "person": kept.subject_N, **targets}
    if settings.care_units:
        columns["site"] = kept.unit_N.tolist()
    write_table(folder, "patients", columns)
    leaks = " and ".join(settings.leaks)
    if leaks:
        remarks.append(f"{leaks}: the input tells how the stay ended; scores on this cohort are no predictions")
    unit = "stay in intensive care" if settings.icu else "hospital admission"
    comments = [
        f"Written by: remind data import mimic-iv. One example is one {unit}, a person may have several.",
        f"Label {settings.label}, hours {settings.hours:g}, notes {settings.notes_rule if settings.note else 'none'}, "
        f"codes {settings.codes_rule}.{f' {leaks}: LEAKS the outcome.' if leaks else ''}",
    ]
    name = f"mimic-iv-{settings.label}{'-leaky' if leaks else ''}"
    label = section.model_dump(mode="json", exclude_defaults=True)
    strata = section.outcome.strata
    write_declaration(folder, name, strata, sections, comments, label=label)
    return Summary(
        folder=settings.out,
        modalities=tuple(modalities),
        classes=strata,
        presence_Nm=presence_Nm[keep_N],
        label_N=_strata(section, kept, known),
        persons=len(np.unique(kept.subject_N)),
        left_out=tuple(left_out),
        remarks=tuple(remarks),
    )


def _outcome(
    settings: MimicSettings, stays: Stays, phenotypes: Phenotypes | None
) -> tuple[LabelSection, dict[str, list[Any]]]:
    """Return the section [label], and the columns of the patients file that it names."""
    if phenotypes is not None:
        section = outcomes()["multilabel"].section.model_validate({"kind": "multilabel", "labels": phenotypes.names})
        words = np.array(["no", "yes"])[phenotypes.holds_NL.astype(np.int64)]
        return section, {name: words[:, place].tolist() for place, name in enumerate(phenotypes.names)}
    if settings.label == "length-of-stay":
        fields = {"kind": "survival", "events": ("died", "left"), "edges": EDGES, "unit": "days"}
        events = [("died", "left")[i] for i in stays.label_N]
        return outcomes()["survival"].section.model_validate(fields), {"time": stays.days_N.tolist(), "event": events}
    classes = ("no", "yes") if settings.label == "readmission" else CLASSES
    return outcomes()["classes"].section.model_validate({"classes": classes}), {
        "label": [classes[i] for i in stays.label_N]
    }


def _strata(section: LabelSection, stays: Stays, phenotypes: Phenotypes | None) -> NDArray[np.int64]:
    if phenotypes is not None:
        return section.outcome.encode(list(phenotypes.holds_NL.T.astype(np.int64))).label_R
    numbers = len(section.columns) == 2
    return section.outcome.encode([stays.days_N, stays.label_N] if numbers else [stays.label_N]).label_R
