"""The patients of an analysis, and the sets of patients whose numbers may be published.

N patients of all hospitals. An atom is the patients of one group in one part of the split; in the test, of one class.
"""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.cohort import TEST, TRAIN, VALIDATION
from remind.groups import members
from remind.privacy.publication import Publication
from remind.privacy.threshold import is_small
from remind_studies.analysis.hospitals import Hospitals

Integers = NDArray[np.int64]
Atom = tuple[int, int, int]  # group, part, class; class 0 where the part is not the test
Row = tuple[int | None, int]  # of the modality values: group, or None for all who have it and another; modality
PARTS = (TRAIN, VALIDATION, TEST)


@dataclass(frozen=True)
class Publishable:
    """The published groups, with all their numbers, and the published rows of modality values."""

    groups: frozenset[int]
    rows: frozenset[Row]


@dataclass(frozen=True)
class Patients:
    """All patients: group, part of the split, class and person of each."""

    group_N: Integers
    part_N: Integers
    label_N: Integers
    person_N: NDArray[np.str_]
    classes: int

    @classmethod
    def of(cls, hospitals: Hospitals) -> "Patients":
        """Join those of all hospitals."""
        found = [
            (cohort.groups_N[row_N], np.full(len(row_N), part), cohort.label_N[row_N], cohort.person_N[row_N])
            for cohort, index in ((site.cohort, site.engine.patients.index) for site in hospitals.sites)
            for part, row_N in ((part, index[part]) for part in PARTS)
        ]
        group_N, part_N, label_N, person_N = (np.concatenate(column) for column in zip(*found, strict=True))
        return cls(group_N, part_N, label_N, person_N, len(hospitals.schema.classes))

    def publishable(self, minimum: int) -> Publishable:
        """Return what may be published: it and the cohort's totals reveal no small number of patients or persons.

        The totals of parts are known; those of the classes in the test too, if none of them is small.

        A group is published if its training, validation and test patients may be; its modality values if besides those
        of each class in the test may be, since scores tell the classes.
        """
        atoms = self._atoms()
        numbers, bundles = self._numbers(atoms)
        counts = {atom: int(self._in(atom).sum()) for atom in atoms}
        persons = {atom: np.unique(self.person_N[self._in(atom)]) for atom in atoms}
        few = {
            key
            for key, own in numbers.items()
            if is_small(len(np.unique(np.concatenate([persons[atom] for atom in own]))), minimum)
        }
        totals = {key for key in numbers if key[0] == "all"}
        known = {key for key in totals - few if len(key) == 2 or not any(key[:2] == one[:2] for one in totals & few)}
        found = Publication(minimum).ask(
            {key: own for key, own in numbers.items() if key in known or key not in totals},
            counts,
            bundles,
            known=known,
            few=few - totals,
        )
        out = {bundles[key] for key in bundles if key not in found}
        groups = frozenset(k for k in {atom[0] for atom in atoms} if ("group", k) not in out)
        rows: set[Row] = {(k, m) for k in groups if ("value", k) not in out for m in members(k)}
        having = {m for k, _, _ in atoms if len(members(k)) > 1 for m in members(k)}
        return Publishable(groups, frozenset(rows | {(None, m) for m in having if ("everyone", m) not in out}))

    def scored(self, sets: Mapping[str, Collection[int]], minimum: int) -> frozenset[str]:
        """Return the sets of groups whose scores of test patients may be shown.

        Scores tell the numbers of each class. None of these numbers is small, and no small one follows from several.
        """
        atoms = [atom for atom in self._atoms() if atom[1] == TEST]
        numbers = {
            (name, c): [atom for atom in atoms if atom[0] in own and atom[2] == c]
            for name, own in sets.items()
            for c in range(self.classes)
        }
        counts = {atom: int(self._in(atom).sum()) for atom in atoms}
        persons = {atom: set(self.person_N[self._in(atom)]) for atom in atoms}
        few = [
            key for key, own in numbers.items() if is_small(len(set().union(*(persons[atom] for atom in own))), minimum)
        ]
        found = Publication(minimum).ask(numbers, counts, {key: key[0] for key in numbers}, few=few)
        return frozenset(name for name, _ in found)

    def _atoms(self) -> list[Atom]:
        sets = [(part, c) for part in PARTS for c in range(self.classes if part == TEST else 1)]
        return [(k, part, c) for k in np.unique(self.group_N).tolist() for part, c in sets]

    def _numbers(self, atoms: list[Atom]) -> tuple[dict[tuple[Hashable, ...], list[Atom]], dict[Hashable, Hashable]]:
        """Return all published or known sums of atoms, and which of them are published together or not at all."""
        numbers: dict[tuple[Hashable, ...], list[Atom]] = {}
        bundles: dict[Hashable, Hashable] = {}
        for atom in atoms:
            k, part, c = atom
            own: list[tuple[tuple[Hashable, ...], Hashable]] = [(("group", k, part), ("group", k))]
            if part == TEST:  # a group of one modality has no value, but others' values may tell its classes
                own.append((("value", k, c), ("value", k)))
            if part == TEST and len(members(k)) > 1:
                own += [(("everyone", m, c), ("everyone", m)) for m in members(k)]
            for key, bundle in own:
                bundles[key] = bundle
                numbers.setdefault(key, []).append(atom)
            for key in {("all", part), ("all", part, c)}:
                numbers.setdefault(key, []).append(atom)
        return numbers, bundles

    def _in(self, atom: Atom) -> NDArray[np.bool_]:
        k, part, c = atom
        inside_N: NDArray[np.bool_] = (self.group_N == k) & (self.part_N == part)
        return inside_N & (self.label_N == c) if part == TEST else inside_N
