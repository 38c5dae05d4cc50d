"""The ranges of predicted probability of the threshold curves, and which groups' curves may be shown.

With a minimum count, a curve is a function of counts that may be shown. All curves then use the same ranges of the
model's log-odds, each with at least the minimum of patients of the class and of the rest among all patients; ranges of
a group are unions of these. `remind.privacy.publication` decides, as for every table, which groups' curves are shown:
no small count of a group in a range follows from all curves together. Totals of groups and sites are protected where
they are shown (`published`); here we assume that a reader knows them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from remind.metrics.ranges import Placed, begins, counted
from remind.metrics.statistics import GroupStatistics, total
from remind.privacy.publication import Key, Publication
from remind_server.dashboard.combined import Merged
from remind_server.dashboard.published import Shown
from remind_server.store.schema import ALL

FINE, COARSE = 100, 12  # ranges of a curve at most: of everything, and under a minimum count
MOST_GROUPS = 24  # whose curves are checked together under a minimum count, the largest; the others are withheld
OTHERS = -1
_FEWER = (COARSE, COARSE // 2, COARSE // 3, 2)  # ranges of a curve at most, as they are tried
Integers = NDArray[np.int64]
Starts = Mapping[int, Sequence[int]]  # group → first bins of its ranges; a group without is withheld


def placed(statistics: GroupStatistics, scored: int) -> Placed:
    """Return the patients of the scored class and of the rest, by the bins of its log-odds."""
    return list(statistics.scores.placed())[scored]


def range_starts(merged: Merged, scored: int, shown: Shown, minimum: int, cuts: Mapping[int, float | None]) -> Starts:
    """Return the ranges of each group whose curve may be shown."""
    everyone = total(dict(merged))
    assert everyone is not None
    if minimum <= 1:
        of = {ALL: everyone, **merged}
        return {k: begins(placed(one, scored), FINE, cut=cuts[k]) for k, one in of.items()}
    whole = placed(everyone, scored)
    if not shown.score(ALL, ALL) or (whole[1].sum(axis=1) < minimum).any():
        return {}
    common = begins(whole, COARSE, minimum, cuts[ALL])
    candidates = [k for k in merged if shown.score(ALL, k)]
    candidates = sorted(candidates, key=lambda k: -merged[k].count)[:MOST_GROUPS]
    table = {k: counted(placed(merged[k], scored), common) for k in candidates}
    rest_2R = counted(whole, common) - sum(table.values(), np.zeros((2, len(common)), dtype=np.int64))
    counts = _atoms({**table, OTHERS: rest_2R})
    publication = Publication(minimum)
    totals = {("total", k, c): [a for a in counts if a[0] == k and a[1] == c] for k in (*table, OTHERS) for c in (0, 1)}
    publication.ask(totals, counts, known=totals.keys())
    publication.ask({("atom", atom): [atom] for atom, n in counts.items() if 0 < n < minimum}, counts)
    found: dict[int, Sequence[int]] = {}
    all_2R: Integers = sum(table.values(), rest_2R)
    for k, counts_2R in {ALL: all_2R, **table}.items():
        members = [*table, OTHERS] if k == ALL else [k]
        tried: set[tuple[int, ...]] = set()
        for most in _FEWER:  # coarser curves where finer ones would give something small away
            places = _unions(counts_2R, all_2R - counts_2R if k != ALL else None, minimum, most)
            if len(places) < 2 or tuple(places) in tried:
                continue
            tried.add(tuple(places))
            ends = [*places[1:], len(common)]
            numbers: dict[Key, list[Key]] = {
                (k, most, r, c): [(g, c, i) for g in members for i in range(places[r], ends[r])]
                for r in range(len(places))
                for c in (0, 1)
            }
            if publication.ask(numbers, counts, dict.fromkeys(numbers, k), careful=True) == set(numbers):
                found[k] = [common[i] for i in places]
                break
    return found


def _atoms(table: Mapping[int, Integers]) -> dict[Key, int]:
    """Return the patients of each group, class or rest, and range."""
    return {
        (k, c, r): int(counts_2R[c, r])
        for k, counts_2R in table.items()
        for c in (0, 1)
        for r in range(counts_2R.shape[1])
    }


def _unions(counts_2R: Integers, rest_2R: Integers | None, minimum: int, most: int) -> list[int]:
    """Return the ranges at which at most `most` unions begin; the remainder joins the last union.

    Each has the minimum of patients of either class, and so have the other groups in it, or none (`rest_2R`).
    """
    wanted = counts_2R.sum() / most

    def enough(first: int, end: int) -> bool:
        own_2 = counts_2R[:, first:end].sum(axis=1)
        others_2 = np.zeros(2) if rest_2R is None else rest_2R[:, first:end].sum(axis=1)
        return bool((own_2 >= minimum).all() and ((others_2 >= minimum) | (others_2 == 0)).all())

    found = [0]
    for r in range(1, counts_2R.shape[1]):
        large = counts_2R[:, found[-1] : r].sum() >= wanted
        if large and enough(found[-1], r) and enough(r, counts_2R.shape[1]):
            found.append(r)
    return found
