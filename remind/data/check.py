"""`remind data check`: what is wrong with a cohort, what is odd, and how its patients lie in groups and sites."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from remind import groups
from remind.data.cohort import SPLITS, Cohort, Table
from remind.data.declaration import CohortFile, SeriesSection
from remind.data.problems import Problem, counted, listed
from remind.data.read import Loaded, load
from remind.data.schema import CohortSchema, ModalitySchema, TableSchema


@dataclass(frozen=True)
class GroupRow:
    """Patients of one group: in all, of each class (C,), at each site (S,)."""

    name: str
    patients: int
    share: float
    tail: bool
    classes: tuple[int, ...]
    sites: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """The findings on a cohort; a cohort with problems has no groups yet."""

    name: str
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()
    schema: CohortSchema | None = None
    patients: int = 0
    persons: int = 0
    splits: tuple[int, ...] = ()
    sites: tuple[str, ...] = ()
    groups: tuple[GroupRow, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the cohort can be used."""
        return not self.problems

    def to_json(self) -> str:
        """The report as a JSON object."""
        content: dict[str, Any] = {
            "name": self.name,
            "ok": self.ok,
            "problems": [problem.to_dict() for problem in self.problems],
            "warnings": list(self.warnings),
            "patients": self.patients,
            "persons": self.persons,
            "splits": dict(zip(SPLITS, self.splits, strict=False)),
            "sites": list(self.sites),
            "groups": [vars(row) for row in self.groups],
            "schema": self.schema and self.schema.describe(),
            "fingerprint": self.schema and self.schema.fingerprint,
        }
        return json.dumps(content, indent=2)

    def to_text(self) -> str:
        """The report for people."""
        lines = [f"cohort {self.name!r}"]
        if self.problems:
            lines += [counted(len(self.problems), "problem"), *(f"  - {problem}" for problem in self.problems)]
        if self.schema is not None:
            lines += self._overview(self.schema)
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([*lines, "" if self.problems else "no problems found"]).rstrip() + "\n"

    def _overview(self, schema: CohortSchema) -> list[str]:
        persons = "" if self.persons == self.patients else f" of {self.persons} persons"
        splits = ", ".join(f"{n} {split}" for n, split in zip(self.splits, SPLITS, strict=False))
        headings = ["group", "patients", "share", "", *schema.classes, *self.sites]
        rows = [
            [row.name, str(row.patients), f"{row.share:.3f}", "tail" if row.tail else "head"]
            + [str(n) for n in (*row.classes, *row.sites)]
            for row in self.groups
        ]
        sites = counted(len(self.sites), "site") if self.sites else "no sites"
        return [
            f"{counted(self.patients, 'patient')}{persons}; {sites}; split: {splits or 'none given'}",
            f"schema fingerprint {schema.fingerprint}",
            *(f"  {modality.name}: {_content(modality)}" for modality in schema.modalities),
            "",
            *_aligned([headings, *rows]),
            "",
        ]


def check_cohort(path: str | Path, root: str = "") -> Report:
    """Read a cohort as `read.read_cohort` does and report on it.

    Parameters
    ----------
    path, root
        As for `read.read_cohort`.

    Raises
    ------
    UserError
        Only where cohort.toml itself, or the folder, is no good; everything else is in the report.
    """
    loaded = load(path, root)
    cohort = loaded.cohort
    if cohort is None:
        return Report(loaded.declared.name, loaded.problems)
    return Report(
        name=loaded.declared.name,
        problems=(),
        warnings=tuple(_warnings(loaded, cohort)),
        schema=cohort.schema,
        patients=len(cohort),
        persons=len(np.unique(cohort.person_N)),
        splits=() if cohort.split_N is None else tuple(np.bincount(cohort.split_N, minlength=len(SPLITS)).tolist()),
        sites=_sites(cohort),
        groups=tuple(group_rows(cohort)),
    )


def group_rows(cohort: Cohort) -> list[GroupRow]:
    """The group table of a cohort, largest group first."""
    count_of = groups.counts(cohort.groups_N)
    share_of, tail = groups.shares(count_of), groups.tail(count_of)
    n_classes, sites = len(cohort.schema.classes), _sites(cohort)
    rows = []
    for group in sorted(count_of, key=lambda g: (-count_of[g], g)):
        inside_N = cohort.groups_N == group
        labels = np.bincount(cohort.label_N[inside_N], minlength=n_classes)
        at = [] if cohort.site_N is None else [int((cohort.site_N[inside_N] == site).sum()) for site in sites]
        name = groups.name(group, cohort.schema.names) or "nothing"
        rows.append(GroupRow(name, count_of[group], share_of[group], group in tail, tuple(labels.tolist()), tuple(at)))
    return rows


def _sites(cohort: Cohort) -> tuple[str, ...]:
    return () if cohort.site_N is None else tuple(np.unique(cohort.site_N).tolist())


def _warnings(loaded: Loaded, cohort: Cohort) -> list[str]:
    """What is allowed but seldom meant."""
    lines = []
    if loaded.unlabelled:
        lines.append(f'{counted(loaded.unlabelled, "patient")} without a label left out (label.missing = "drop")')
    if loaded.empty:
        lines.append(f'{counted(loaded.empty, "patient")} without any modality left out (patients.empty = "drop")')
    classes = cohort.schema.classes
    if absent := [name for code, name in enumerate(classes) if not (cohort.label_N == code).any()]:
        lines.append(f"no patient has the label {listed(absent)}: these classes cannot be learned from this cohort")
    for site in _sites(cohort):
        seen = np.unique(cohort.label_N[cohort.site_N == site])
        if seen.size == 1:
            lines.append(f"site {site!r} has one class alone ({classes[seen[0]]}): no AUROC can be measured there")
    if cohort.split_N is not None:
        held_out = [SPLITS[code] for code in (1, 2) if not (cohort.split_N == code).any()]
        lines += [f"the split has no {name} patients" for name in held_out]
    for modality in cohort.schema.modalities:
        lines += _modality_warnings(loaded.declared, cohort, modality)
    return lines


def _modality_warnings(declared: CohortFile, cohort: Cohort, modality: ModalitySchema) -> list[str]:
    data, section, lines = cohort.modalities[modality.name], declared.modalities[modality.name], []
    if not data.present().any():
        if section.absent:
            return []
        return [f"{modality.name}: no patient has it"]
    unset = []
    if isinstance(data, Table) and isinstance(modality, TableSchema):
        outcome = {declared.label.column, *([declared.split.column] if declared.split else [])}
        if leaks := [c for c in modality.columns if c in outcome]:
            lines.append(f"{modality.name}: {listed(leaks)} is named like the label or the split; is it a feature?")
        nothing_F = np.isnan(data.values_NF).all(axis=0)
        if nothing_F.any():
            empty = listed(np.array(modality.columns)[nothing_F])
            lines.append(f"{modality.name}: no patient has a value of {empty}")
        unset = ["columns"] if not isinstance(section, SeriesSection) and section.columns is None else []
    elif isinstance(section, SeriesSection):
        unset = [field for field in ("items", "horizon") if getattr(section, field) is None]
    if unset:
        words = " and ".join(unset)
        lines.append(
            f"{modality.name}: {words} not declared but taken from the file; declare before joining other sites"
        )
    return lines


def _content(modality: ModalitySchema) -> str:
    if isinstance(modality, TableSchema):
        return f"table, {len(modality.numeric)} numeric and {len(modality.categories)} categorical columns"
    return f"series, {len(modality.items)} items over {modality.horizon_hours:g} hours"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as text columns: the first to the left, the rest to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
