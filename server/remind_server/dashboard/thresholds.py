"""Curves of each group over the threshold of a decision, from merged histograms.

Under a minimum count a curve is a function of counts that may be shown. All curves then have the same ranges of the
model's log-odds, each with the minimum of patients of the class and of the rest among all patients; ranges of a group
are unions of these. Which groups' curves are shown is decided as for every table (`remind.privacy.publication`): no
small count of a group in a range follows from all curves together. What groups and sites count in all is protected
where these numbers are shown (`published`); here a reader is assumed to know it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.metrics.calibration import Calibration, Scaling
from remind.metrics.histograms import centres
from remind.metrics.intervals import wilson
from remind.metrics.ranges import Placed, begins, bin_from, counted, lower_ends, points
from remind.metrics.reliability import probability
from remind.metrics.statistics import GroupStatistics, total
from remind.privacy.publication import Key, Publication
from remind_server.dashboard.answers import Chosen, GroupCurves, Patients, Range, ThresholdPoint
from remind_server.dashboard.published import Shown
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.together import Merged, merged_statistics
from remind_server.store.schema import ALL, Group

FINE, COARSE = 100, 12  # ranges of a curve at most: of everything, and under a minimum count
MOST_GROUPS = 24  # whose curves are checked together under a minimum count, the largest; the others are withheld
OTHERS = -1
_FEWER = (COARSE, COARSE // 2, COARSE // 3, 2)  # ranges of a curve at most, as they are tried
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
_Starts = Mapping[int, Sequence[int]]  # group → first bins of its ranges; a group without is withheld


def group_curves(
    reader: Reader, run_id: int, number: int = ALL, patients: Patients | None = None, scored: int = 0
) -> GroupCurves | None:
    """Return the curves of a group, or of all patients; null where they are withheld, undefined or not known.

    `scored` is the place of the class scored against the rest, of two classes always the second. They are not known of
    runs that an earlier version wrote, and before a first evaluation.
    """
    with Session(reader.engine) as session:
        run = reader.run(session, run_id)
        cells = reader.cells(session, run_id, patients)
        merged = merged_statistics(session, run_id, cells.patients)
        found = total(dict(merged)) if number == ALL else merged.get(number)
        names = run.classes[1:] if len(run.classes) == 2 else run.classes
        if found is None or not 0 <= scored < len(names):
            return None
        mask_of = {g.number: g.mask for g in session.scalars(select(Group).where(Group.run_id == run_id))}
        name_of = {g.number: g.name for g in session.scalars(select(Group).where(Group.run_id == run_id))}
        model: Any = run.model or {}
        fitted = model.get("calibration") if cells.patients == "test" else None
        decision = _Decision(Calibration.model_validate(fitted) if fitted else None, len(run.classes) == 2)
        key = (run_id, run.change, cells.patients, scored)
        shown = cells.shown
    cuts = {k: decision.cut(mask) for k, mask in mask_of.items()} | {ALL: decision.cut(None)}
    starts_of = reader.decide(key, lambda: _starts(merged, scored, shown, reader.min_count, cuts))
    if number not in starts_of:
        return None
    placed = _placed(found, scored)
    mask, name = mask_of.get(number), name_of.get(number, "all groups")
    return _curves(number, name, names[scored], placed, starts_of[number], decision, mask)


@dataclass(frozen=True)
class _Decision:
    """What turns the model's log-odds into probabilities and decisions; with three classes or more, only the former."""

    calibration: Calibration | None
    two: bool

    def odds(self, odds_K: Floats, mask: int | None) -> Floats:
        """Return the calibrated log-odds of a group, or of all patients."""
        if self.calibration is None or not self.two:
            return odds_K
        return self._scaling(mask).odds(odds_K)

    def cut(self, mask: int | None) -> float | None:
        """Return the threshold in use as the model's own log-odds: the operating point's, else that of p = 1/2."""
        if not self.two:
            return None
        if self.calibration is None:
            return 0.0
        point = self.calibration.point if mask is None else self.calibration.point_of(mask)
        scaling = self._scaling(mask)
        return ((point.log_odds if point else 0.0) - scaling.bias[1] + scaling.bias[0]) / scaling.weights[1]

    @property
    def calibrated(self) -> bool:
        """Return whether the probabilities are others than the model's own."""
        return self.calibration is not None and self.two and self.calibration.method != "none"

    def _scaling(self, mask: int | None) -> Scaling:
        assert self.calibration is not None
        return self.calibration.scaling if mask is None else self.calibration.scaling_of(mask)


def _placed(statistics: GroupStatistics, scored: int) -> Placed:
    return list(statistics.scores.placed())[scored]


def _starts(merged: Merged, scored: int, shown: Shown, minimum: int, cuts: Mapping[int, float | None]) -> _Starts:
    """Return the ranges of each group whose curve may be shown."""
    everyone = total(dict(merged))
    assert everyone is not None
    if minimum <= 1:
        of = {ALL: everyone, **merged}
        return {k: begins(_placed(one, scored), FINE, cut=cuts[k]) for k, one in of.items()}
    whole = _placed(everyone, scored)
    if not shown.score(ALL, ALL) or (whole[1].sum(axis=1) < minimum).any():
        return {}
    common = begins(whole, COARSE, minimum, cuts[ALL])
    candidates = [k for k in merged if shown.score(ALL, k)]
    candidates = sorted(candidates, key=lambda k: -merged[k].count)[:MOST_GROUPS]
    table = {k: counted(_placed(merged[k], scored), common) for k in candidates}
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
    """Return the ranges at which at most `most` unions begin; what is left at the end joins the last.

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


def _curves(
    number: int,
    name: str,
    of: str,
    placed: Placed,
    starts: Sequence[int],
    decision: _Decision,
    mask: int | None,
) -> GroupCurves | None:
    counts_2R, low_R = counted(placed, starts), lower_ends(starts)
    found = points(counts_2R, low_R)
    if not found:
        return None

    def p(odds_K: Floats) -> Floats:
        return probability(decision.odds(odds_K, mask))

    place_K = np.searchsorted(np.asarray(starts), placed[0], side="right") - 1
    n_R = counts_2R.sum(axis=0)
    sum_R = np.bincount(place_K, placed[1].sum(axis=0) * p(centres(placed[0])), len(starts))
    low_p_R = p(low_R)
    high_p_R = np.append(low_p_R[1:], 1.0)
    shares = [
        ThresholdPoint(
            float(p(np.array([one.log_odds]))[0]), one.sensitivity, one.specificity, one.precision, one.called
        )
        for one in found
    ]
    return GroupCurves(
        number=number,
        group=name,
        scored=of,
        n=int(n_R.sum()),
        of_class=int(counts_2R[1].sum()),
        calibrated=decision.calibrated,
        ranges=[
            Range(float(low_p_R[r]), float(high_p_R[r]), int(n_R[r]), int(counts_2R[1, r]), float(sum_R[r] / n_R[r]))
            for r in np.flatnonzero(n_R)
        ],
        points=shares,
        chosen=_chosen(shares, starts, counts_2R, decision, mask),
    )


def _chosen(
    shares: Sequence[ThresholdPoint], starts: Sequence[int], counts_2R: Integers, decision: _Decision, mask: int | None
) -> Chosen | None:
    """Return what the decision in use achieves; None if its threshold is no end of a range."""
    cut = decision.cut(mask)
    if cut is None or (begin := bin_from(cut)) not in starts:
        return None
    point = shares[len(starts) - list(starts).index(begin)]
    rest, own = (int(n) for n in counts_2R.sum(axis=1))
    (low, high), (low_spec, high_spec) = wilson(point.sensitivity, own), wilson(point.specificity, rest)
    return Chosen(
        wanted=decision.calibration.wanted if decision.calibration is not None else "",
        threshold=point.threshold,
        sensitivity=point.sensitivity,
        sensitivity_low=low,
        sensitivity_high=high,
        specificity=point.specificity,
        specificity_low=low_spec,
        specificity_high=high_spec,
    )
