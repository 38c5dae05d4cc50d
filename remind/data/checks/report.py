"""The findings of `remind data check`, for people and for programs. Letters: C classes, S sites."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from remind.data.checks.report_text import aligned, ranges, wrapped
from remind.data.cohort.cohort import SPLITS
from remind.data.cohort.kind import kind_of
from remind.data.cohort.problems import PER_KIND, Problem, counted, listed, shortened
from remind.data.cohort.schema import CohortSchema


@dataclass(frozen=True)
class GroupRow:
    """Patients of one group: in total, per class (C,), per site (S,)."""

    name: str
    patients: int
    share: float
    tail: bool
    classes: tuple[int, ...]
    sites: tuple[int, ...]


@dataclass(frozen=True)
class Below:
    """Groups that have patients at a site (or in total), but fewer than the minimum count."""

    groups: tuple[str, ...]
    of_groups: int
    patients: int

    @classmethod
    def found(cls, patients_of: Mapping[str, int], min_count: int) -> "Below":
        """Return the groups of `patients_of` that a minimum count would suppress."""
        there = {name: n for name, n in patients_of.items() if n}
        below = {name: n for name, n in there.items() if n < min_count}
        return cls(tuple(below), len(there), sum(below.values()))


@dataclass(frozen=True)
class Report:
    """The findings on a cohort. A cohort with problems has no groups yet.

    Attributes
    ----------
    broken
        Files left out because they cannot be used, per modality.
    folder
        Where its files lie; problems name them without it.
    files
        Properties of a modality's files in words, by the modality's name.
    min_count
        Groups smaller than this would be suppressed.
    """

    name: str
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()
    schema: CohortSchema | None = None
    patients: int = 0
    persons: int = 0
    splits: tuple[int, ...] = ()
    sites: tuple[str, ...] = ()
    groups: tuple[GroupRow, ...] = ()
    broken: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    min_count: int = 1
    folder: str = ""

    @property
    def ok(self) -> bool:
        """Return whether the cohort can be used."""
        return not self.problems

    @property
    def below(self) -> Below:
        """Return the groups that are too small even over all sites together."""
        return Below.found({row.name: row.patients for row in self.groups}, self.min_count)

    @property
    def below_at(self) -> dict[str, Below]:
        """Return the groups that are too small at each site."""
        return {
            site: Below.found({row.name: row.sites[s] for row in self.groups}, self.min_count)
            for s, site in enumerate(self.sites)
        }

    def to_json(self) -> str:
        """Return the report as a JSON object; nothing is shortened."""
        report: dict[str, Any] = {
            "name": self.name,
            "folder": self.folder,
            "ok": self.ok,
            "problems": [problem.to_dict() for problem in self.problems],
            "broken": {name: [problem.to_dict() for problem in lines] for name, lines in self.broken.items()},
            "warnings": list(self.warnings),
            "patients": self.patients,
            "persons": self.persons,
            "splits": dict(zip(SPLITS, self.splits, strict=False)),
            "sites": list(self.sites),
            "groups": [vars(row) for row in self.groups],
            "files": dict(self.files),
            "min_count": self.min_count,
            "below": vars(self.below),
            "below_at": {site: vars(below) for site, below in self.below_at.items()},
            "schema": self.schema and self.schema.describe(),
            "fingerprint": self.schema and self.schema.fingerprint,
        }
        return json.dumps(report, indent=2)

    def to_text(self) -> str:
        """Return the report as text for people."""
        lines = [f"cohort {self.name!r}" + (f" ({self.folder})" if self.problems and self.folder else "")]
        if self.problems:
            lines += [counted(len(self.problems), "problem"), *shortened(self.problems)]
        if self.schema is not None:
            lines += [*self._overview(self.schema), "", *self._groups(self.schema), "", *self._below(), ""]
        lines += self._left_out()
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([*lines, "" if self.problems else "no problems found"]).rstrip() + "\n"

    def _overview(self, schema: CohortSchema) -> list[str]:
        persons = "" if self.persons == self.patients else f" of {self.persons} persons"
        splits = ", ".join(f"{n} {split}" for n, split in zip(self.splits, SPLITS, strict=False))
        sites = counted(len(self.sites), "site") if self.sites else "no sites"
        modalities = [f"  {m.name}: {kind_of(m).describe(m)}{self.files.get(m.name, '')}" for m in schema.modalities]
        return [
            f"{counted(self.patients, 'patient')}{persons}; {sites}; split: {splits or 'none given'}",
            f"schema fingerprint {schema.fingerprint}",
            *modalities,
        ]

    def _groups(self, schema: CohortSchema) -> list[str]:
        """Format the groups with their classes, then with their sites."""
        digits = len(str(len(self.groups)))
        rows = [["group", "patients", "share", "", *schema.strata]]
        for number, row in enumerate(self.groups, start=1):
            classes = [f"{n} ({n / row.patients:.0%})" for n in row.classes]
            where = "tail" if row.tail else "head"
            rows.append([f"{number:>{digits}} {row.name}", str(row.patients), f"{row.share:.3f}", where, *classes])
        lines = aligned(rows)
        if self.sites:
            at_sites = [
                [str(number), *(f"{n or '·'}{'*' if 0 < n < self.min_count else ' '}" for n in row.sites)]
                for number, row in enumerate(self.groups, start=1)
            ]
            lines += ["", *wrapped([["group", *(f"{site} " for site in self.sites)], *at_sites])]
        return lines

    def _below(self) -> list[str]:
        """Format the suppressed groups: in total, and at each site that has any."""
        number_of = {row.name: number for number, row in enumerate(self.groups, start=1)}

        def words(below: Below) -> str:
            if not below.groups:
                return f"none of {counted(below.of_groups, 'group')}"
            few = f"{len(below.groups)} of {counted(below.of_groups, 'group')}, {counted(below.patients, 'patient')}"
            return f"{few}: {listed(ranges([number_of[name] for name in below.groups]))}"

        heading = f"groups below the minimum count of {self.min_count}, which would be suppressed"
        lines = [f"{heading}{' (*)' if self.sites else ''}:", f"  in all: {words(self.below)}"]
        return lines + [f"  site {site}: {words(below)}" for site, below in self.below_at.items()]

    def _left_out(self) -> list[str]:
        """Format the unusable files, if cohort.toml asks to continue without them."""
        lines = []
        for name, problems in self.broken.items():
            lines.append(f'{name}: {counted(len(problems), "file")} left out (broken = "drop")')
            lines += shortened(problems, PER_KIND)
        return [*lines, ""] if lines else []
