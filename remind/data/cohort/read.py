"""Reads a folder into a `Cohort`. Only this module reads data files, both for training and for checking."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.cohort import Cohort, presence
from remind.data.cohort.contents import Contents, OnePerPatient
from remind.data.cohort.declaration import CohortFile, read_declaration
from remind.data.cohort.examine import Finding, examine, mask_of
from remind.data.cohort.kind import kind_of
from remind.data.cohort.masks import Masks, masks_of
from remind.data.cohort.patients import Patients, read_patients
from remind.data.cohort.problems import Problem, listed, shortened
from remind.data.cohort.schema import CohortSchema, ModalitySchema, label_fields
from remind.data.cohort.source_files import find_file, open_source
from remind.data.cohort.verdicts import Memory
from remind.data.cohort.wanted import Wanted
from remind.data.files import Sight
from remind.errors import UserError


@dataclass(frozen=True)
class Loaded:
    """The result of reading.

    Attributes
    ----------
    declared
        The parsed cohort.toml.
    cohort
        None if there are problems.
    problems
        Everything that is wrong.
    unlabelled, empty
        Patients left out because they have no label or no modality, if cohort.toml allows it.
    broken
        Files left out because they cannot be used, if cohort.toml allows it, per modality.
    sights
        Properties of the pictures that passed, per modality.
    remarks
        Warnings about the files.
    folder
        Folder of the data files.
    """

    declared: CohortFile
    cohort: Cohort | None
    problems: tuple[Problem, ...]
    unlabelled: int = 0
    empty: int = 0
    broken: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    sights: Mapping[str, Mapping[Path, Sight]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    folder: Path = Path()


def read_cohort(path: str | Path, root: str = "", memory: Memory | None = None) -> Cohort:
    """Read a cohort.

    Parameters
    ----------
    path
        A cohort's folder, or its cohort.toml.
    root
        Folder of the data files, if it is not the one that cohort.toml names.
    memory
        Cache for the verdicts of files that passed, as for `examine`.

    Returns
    -------
    Cohort
        Patients in the order of the patients file.

    Raises
    ------
    UserError
        Lists everything that is wrong: file, row, column, value, remedy.
    """
    loaded = load(path, root, memory)
    if loaded.cohort is None:
        heading = f"cohort {loaded.declared.name!r} ({loaded.folder}) cannot be read"
        raise UserError("\n".join([heading, *shortened(loaded.problems)]))
    return loaded.cohort


def load(path: str | Path, root: str = "", memory: Memory | None = None) -> Loaded:
    """Read everything that can be read, and collect problems instead of stopping at the first.

    Raises
    ------
    UserError
        Only if cohort.toml itself or the folder cannot be used.
    """
    declared, folder = read_declaration(path, root)
    problems: list[Problem] = []
    remarks: list[str] = []
    patients = _load_patients(declared, folder, problems, remarks)
    position = None if patients is None else patients.position()
    starts = {} if patients is None else patients.starts
    pairs = {
        name: _load_modality(declared, folder, name, position, starts, problems, remarks)
        for name in declared.modalities
    }
    found = {name: pair for name, pair in pairs.items() if pair is not None}
    broken: dict[str, tuple[Problem, ...]] = {}
    sights: dict[str, Mapping[Path, Sight]] = {}
    if patients is not None:
        for name, (modality, contents) in found.items():
            examined = examine(modality, contents, memory)
            findings, sights[name] = examined.findings, examined.sights
            if not findings or not isinstance(contents, OnePerPatient):
                continue
            lines = _broken(declared, name, contents, patients, findings)
            if getattr(declared.modalities[name], "broken", "error") == "error":
                problems += lines
            else:
                broken[name] = lines
                found[name] = modality, contents.hide(mask_of(findings, len(patients.id_R)))
    masks = None if patients is None else masks_of(declared.label, patients.mask_R)
    if patients is not None and masks is not None:
        problems += masks.problems(patients.id_R, declared.label.columns[0].name, memory)
    if patients is None or problems:
        return Loaded(declared, None, tuple(problems), broken=broken, folder=folder)
    schema = CohortSchema(
        name=declared.name,
        **label_fields(declared.label.outcome),
        modalities=tuple(modality_schema for modality_schema, _ in found.values()),
    )
    loaded = _assemble(declared, schema, patients, {name: data for name, (_, data) in found.items()}, masks)
    return replace(loaded, broken=broken, sights=sights, remarks=tuple(remarks), folder=folder)


def _broken(
    declared: CohortFile, name: str, contents: OnePerPatient, patients: Patients, findings: Mapping[int, Finding]
) -> tuple[Problem, ...]:
    """Return a problem for each file that cannot be used, with its patient."""
    section = declared.modalities[name]
    dropped = getattr(section, "broken", "error") == "drop"
    hint = "" if dropped else f'; or leave such files out with broken = "drop" in [modalities.{name}]'
    lines = []
    for i, finding in sorted(findings.items()):
        path = contents.source_N[i]
        who = f"modality {name} of patient {patients.id_R[i]}: {finding.what}"
        lines.append(Problem(path.name, who, finding.remedy + hint, value=str(path)))
    return tuple(lines)


def _load_patients(declared: CohortFile, folder: Path, problems: list[Problem], remarks: list[str]) -> Patients | None:
    path = find_file(folder, "patients", declared.patients.file, "patients", problems)
    source = open_source(path, problems, remarks, "add a row per patient") if path else None
    return None if source is None else read_patients(source, declared, folder)


def _load_modality(
    declared: CohortFile,
    folder: Path,
    name: str,
    position: Mapping[str, int] | None,
    starts: Mapping[str, NDArray[np.float64]],
    problems: list[Problem],
    remarks: list[str],
) -> tuple[ModalitySchema, Contents] | None:
    section = declared.modalities[name]
    if section.absent:
        return kind_of(section).absent(name, section, len(position or ()), problems)
    path = find_file(folder, name, section.file, f"modalities.{name}", problems)
    if_empty = "add rows (for a modality that no patient of this site has: absent = true)"
    source = open_source(path, problems, remarks, if_empty) if path else None
    if source is None:
        return None
    wanted = Wanted(name, section, section.id or declared.patients.id, position, folder, starts)
    return kind_of(section).read(source, wanted)


def _assemble(
    declared: CohortFile,
    schema: CohortSchema,
    patients: Patients,
    modalities: dict[str, Contents],
    masks: Masks | None,
) -> Loaded:
    """Build the cohort without the patients that cohort.toml allows to leave out; others without data are a problem."""
    presence_Rm = presence(schema, modalities)
    labelled_R, some_R = patients.label_R >= 0, presence_Rm.any(axis=1)
    empty_R = labelled_R & ~some_R
    keep_R = labelled_R & some_R
    problems = []
    if empty_R.any() and declared.patients.empty == "error":
        have = "patient has" if empty_R.sum() == 1 else "patients have"
        what = f"{empty_R.sum()} {have} no modality at all: {listed(patients.id_R[empty_R], 3)}"
        remedy = 'check that their ids agree between the files, or leave them out with [patients] empty = "drop"'
        problems.append(Problem(patients.file, what, remedy))
    elif not keep_R.any():
        problems.append(Problem(patients.file, "no patient is left that has a label and a modality", "check both"))
    if problems:
        return Loaded(declared, None, tuple(problems))
    cohort = Cohort(
        schema=schema,
        patient_id_N=patients.id_R,
        person_N=patients.person_R,
        label_N=patients.label_R,
        target_NT=patients.target_RT,
        site_N=patients.site_R,
        split_N=patients.split_R,
        presence_Nm=presence_Rm,
        modalities=modalities,
        masks=masks,
    )
    others = cohort.take(~labelled_R & some_R) if (~labelled_R & some_R).any() else None
    cohort = replace(cohort if keep_R.all() else cohort.take(keep_R), unlabelled=others)
    return Loaded(declared, cohort, (), int((~labelled_R).sum()), int(empty_R.sum()))
