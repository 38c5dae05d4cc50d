"""Curves of each group over the decision threshold, from merged histograms."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.metrics.calibration import Calibration, Scaling
from remind.metrics.histograms import centres
from remind.metrics.intervals import wilson
from remind.metrics.ranges import Placed, bin_from, counted, lower_ends, points
from remind.metrics.reliability import probability
from remind.metrics.statistics import total
from remind_server.dashboard.answers import Patients
from remind_server.dashboard.combined import merged_statistics
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.shown_ranges import placed, range_starts
from remind_server.store.schema import ALL, Group

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Range:
    """Patients of a range of predicted probability, those of the class among them, and the mean prediction."""

    low: float
    high: float
    n: int
    of_class: int
    predicted: float


@dataclass(frozen=True)
class ThresholdPoint:
    """The result of a threshold probability. `called` is the share predicted positive; precision is null if it is 0."""

    threshold: float
    sensitivity: float
    specificity: float
    precision: float | None
    called: float


@dataclass(frozen=True)
class Chosen:
    """The result of the decision in use, with 95 % intervals; `wanted` is the operating point's condition, or empty."""

    wanted: str
    threshold: float
    sensitivity: float
    sensitivity_low: float
    sensitivity_high: float
    specificity: float
    specificity_low: float
    specificity_high: float


@dataclass(frozen=True)
class GroupCurves:
    """ROC, precision–recall, calibration and threshold curves of a group's patients, or of all.

    `points` go from a threshold at which nobody is positive to one at which everybody is; they are computed from
    `ranges`, which start at the lowest probability. `calibrated` says whether the probabilities are calibrated.
    """

    number: int
    group: str
    scored: str
    n: int
    of_class: int
    calibrated: bool
    ranges: list[Range]
    points: list[ThresholdPoint]
    chosen: Chosen | None


def group_curves(
    reader: Reader, run_id: int, numbers: Collection[int], patients: Patients | None = None, scored: int = 0
) -> dict[int, GroupCurves]:
    """Return the curves of these groups (`ALL`: of all patients), without those withheld, undefined or not known.

    `scored` is the place of the class scored against the rest, of two classes always the second. They are unknown for
    runs of an earlier version, and before the first evaluation.
    """
    with Session(reader.engine) as session:
        run = reader.run(session, run_id)
        cells = reader.cells(session, run_id, patients)
        merged = merged_statistics(session, run_id, cells.patients)
        everyone = total(dict(merged))
        names = run.classes[1:] if len(run.classes) == 2 else run.classes
        if everyone is None or not 0 <= scored < len(names):
            return {}
        groups = {g.number: g for g in session.scalars(select(Group).where(Group.run_id == run_id))}
        model: Any = run.model or {}
        fitted = model.get("calibration") if cells.patients == "test" else None
        decision = _Decision(Calibration.model_validate(fitted) if fitted else None, len(run.classes) == 2)
        key = (run_id, run.change, cells.patients, scored)
        shown = cells.shown
    cuts = {k: decision.cut(group.mask) for k, group in groups.items()} | {ALL: decision.cut(None)}
    starts_of = reader.decide(key, lambda: range_starts(merged, scored, shown, reader.min_count, cuts))
    found = {}
    for number in starts_of.keys() & set(numbers):
        bins = placed(everyone if number == ALL else merged[number], scored)
        mask, name = (None, "all groups") if number == ALL else (groups[number].mask, groups[number].name)
        curves = _curves(number, name, names[scored], bins, starts_of[number], decision, mask)
        if curves is not None:
            found[number] = curves
    return found


@dataclass(frozen=True)
class _Decision:
    """Converts the model's log-odds into probabilities and, with two classes, decisions."""

    calibration: Calibration | None
    two: bool

    def odds(self, odds_K: Floats, mask: int | None) -> Floats:
        """Return the calibrated log-odds of a group, or of all patients."""
        if self.calibration is None or not self.two:
            return odds_K
        return self._scaling(mask).odds(odds_K)

    def cut(self, mask: int | None) -> float | None:
        """Return the threshold in use, in the model's own log-odds: the operating point's, else that of p = 1/2."""
        if not self.two:
            return None
        if self.calibration is None:
            return 0.0
        point = self.calibration.point if mask is None else self.calibration.point_of(mask)
        scaling = self._scaling(mask)
        return ((point.log_odds if point else 0.0) - scaling.bias[1] + scaling.bias[0]) / scaling.weights[1]

    @property
    def calibrated(self) -> bool:
        """Return whether the probabilities differ from the model's own."""
        return self.calibration is not None and self.two and self.calibration.method != "none"

    def _scaling(self, mask: int | None) -> Scaling:
        assert self.calibration is not None
        return self.calibration.scaling if mask is None else self.calibration.scaling_of(mask)


def _curves(
    number: int,
    name: str,
    of: str,
    bins: Placed,
    starts: Sequence[int],
    decision: _Decision,
    mask: int | None,
) -> GroupCurves | None:
    counts_2R, low_R = counted(bins, starts), lower_ends(starts)
    found = points(counts_2R, low_R)
    if not found:
        return None

    def p(odds_K: Floats) -> Floats:
        return probability(decision.odds(odds_K, mask))

    place_K = np.searchsorted(np.asarray(starts), bins[0], side="right") - 1
    n_R = counts_2R.sum(axis=0)
    sum_R = np.bincount(place_K, bins[1].sum(axis=0) * p(centres(bins[0])), len(starts))
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
    """Return the result of the decision in use; None if its threshold is not the end of a range."""
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
