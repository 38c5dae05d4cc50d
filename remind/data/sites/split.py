"""Splits a cohort into train, validation and test patients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.cohort import TEST, TRAIN, VALIDATION, Cohort
from remind.errors import UserError


@dataclass(frozen=True)
class Persons:
    """The P persons of a cohort, sorted by name.

    Attributes
    ----------
    of_N
        Person of each of the N patients (rows), as a position 0 … P − 1.
    size_P
        Rows per person.
    group_P, label_P
        Group and label of the person's row with the smallest patient id: any fixed choice that does not depend on the
        order of the rows would do.
    """

    of_N: NDArray[np.int64]
    name_P: NDArray[np.str_]
    size_P: NDArray[np.int64]
    group_P: NDArray[np.int64]
    label_P: NDArray[np.int64]


def persons(cohort: Cohort) -> Persons:
    """Return the cohort's persons. The result does not depend on the order of its rows."""
    order_N = np.argsort(cohort.patient_id_N, kind="stable")
    name_P, first_P, of_sorted_N = np.unique(cohort.person_N[order_N], return_index=True, return_inverse=True)
    of_N = np.empty(len(cohort), dtype=np.int64)
    of_N[order_N] = of_sorted_N
    row_P = order_N[first_P]
    size_P = np.bincount(of_N, minlength=len(name_P))
    return Persons(of_N, name_P, size_P, cohort.groups_N[row_P], cohort.label_N[row_P])


def shuffled(name_P: NDArray[np.str_], seed: int) -> NDArray[np.int64]:
    """Order persons (P,) by SHA-256(seed|name): a random order that does not depend on who else is present."""
    keys = [sha256(f"{seed}|{name}".encode()).digest() for name in name_P.tolist()]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def assign_split(cohort: Cohort, seed: int, validation: float, test: float, least: int = 0) -> Cohort:
    """Return the cohort with a split: the given one if there is one, else a seeded split stratified by (group, label).

    A person's rows stay together. The order of the rows does not matter. If a stratum is too small to give its share,
    the
    next stratum gives the rest, so that the overall shares are right for any number of strata.

    Parameters
    ----------
    validation, test
        Shares of the patients, 0 … 1, together below 1; a given split ignores them.
    least
        As for `draw_split`; a given split ignores it too.

    Raises
    ------
    UserError
        No patient would be left for training.
    """
    split_N = draw_split(persons(cohort), seed, validation, test, least) if cohort.split_N is None else cohort.split_N
    if not (split_N == TRAIN).any():
        raise UserError(f"none of the {len(cohort)} patients is in the training split; check the split column")
    return replace(cohort, split_N=split_N)


def agreed(cohorts: Sequence[Cohort], draw: Callable[[Cohort], NDArray[np.int8]], seed: int) -> list[NDArray[np.int8]]:
    """Return the split of each site's rows. A person with rows at several sites is in the same part at all of them.

    The site with most of a person's rows (if several are equal, the first) draws the person's part among the persons
    assigned to it. So if no person is at two sites, every site's split is the one it would draw alone. A site that this
    leaves without training patients gets one of its persons, whose rows are then training rows at every site.

    Parameters
    ----------
    cohorts
        The cohorts of the sites, in order.
    draw
        Function that returns the split of each row of a cohort.
    seed
        Selects the person if one must change.
    """
    name_P, of_all = np.unique(np.concatenate([cohort.person_N for cohort in cohorts]), return_inverse=True)
    edges = np.cumsum([len(cohort) for cohort in cohorts])[:-1]
    of_S = np.split(of_all, edges)
    home_P, most_P = np.full(len(name_P), -1), np.zeros(len(name_P), dtype=np.int64)
    for site, of_N in enumerate(of_S):
        rows_P = np.bincount(of_N, minlength=len(name_P))
        home_P[rows_P > most_P] = site
        most_P = np.maximum(most_P, rows_P)
    split_P = np.full(len(name_P), TRAIN, dtype=np.int8)
    for site, (cohort, of_N) in enumerate(zip(cohorts, of_S, strict=True)):
        own_N = home_P[of_N] == site
        if own_N.any():
            split_P[of_N[own_N]] = draw(cohort if own_N.all() else cohort.take(own_N))
    for of_N in of_S:
        if not (split_P[of_N] == TRAIN).any():
            here = np.unique(of_N)
            split_P[here[shuffled(name_P[here], seed)[-1]]] = TRAIN
    return [split_P[of_N] for of_N in of_S]


def draw_split(who: Persons, seed: int, validation: float, test: float, least: int = 0) -> NDArray[np.int8]:
    """Return the split of each row, (N,).

    Parameters
    ----------
    least
        Statistics of a group with fewer patients than this are not published. A group that is large enough gets this
        many
        test patients and validation patients, even if its share is smaller, and keeps at least as many for training.
        Otherwise a group of 40 would be trained on, but with only 8 test patients its performance could never be seen.
    """
    shuffle_P = shuffled(who.name_P, seed)
    order_P = shuffle_P[np.lexsort((who.label_P[shuffle_P], who.group_P[shuffle_P]))]
    stratum_P = np.stack([who.group_P, who.label_P], axis=1)[order_P]
    edges = np.flatnonzero((stratum_P[1:] != stratum_P[:-1]).any(axis=1)) + 1
    split_P = np.full(len(order_P), TRAIN, dtype=np.int8)
    owed = {TEST: 0.0, VALIDATION: 0.0}
    for stratum in np.split(order_P, edges):
        rows = int(who.size_P[stratum].sum())
        owed = {TEST: owed[TEST] + test * rows, VALIDATION: owed[VALIDATION] + validation * rows}
        for person in stratum:
            size = int(who.size_P[person])
            part = max(owed, key=owed.__getitem__)
            if owed[part] > size / 2:  # the next stratum gives the rest
                split_P[person] = part
                owed[part] -= size
    if len(order_P) and not (split_P == TRAIN).any():
        split_P[shuffle_P[-1]] = TRAIN
    for part in [TEST] * (test > 0) + [VALIDATION] * (validation > 0):
        for group in np.unique(who.group_P):
            _fill(split_P, who, shuffle_P[who.group_P[shuffle_P] == group], part, least)
    return split_P[who.of_N]


def _fill(split_P: NDArray[np.int8], who: Persons, group_P: NDArray[np.int64], part: int, least: int) -> None:
    """Move training patients of a group to a part until it has `least`, if as many stay for training.

    The class with the smallest share in the part gives next, so that classes stay in proportion.
    """
    size_P, label_P = who.size_P[group_P], who.label_P[group_P]

    def patients(of: int) -> int:
        return int(size_P[split_P[group_P] == of].sum())

    if patients(part) + patients(TRAIN) < 2 * least:
        return
    while patients(part) < least:
        spare_P = split_P[group_P] == TRAIN
        classes = np.unique(label_P[spare_P])
        there = [
            size_P[(label_P == c) & (split_P[group_P] == part)].sum() / size_P[label_P == c].sum() for c in classes
        ]
        first = np.flatnonzero(spare_P & (label_P == classes[int(np.argmin(there))]))[0]
        if patients(TRAIN) - int(size_P[first]) < least:
            return  # a person with many rows
        split_P[group_P[first]] = part
