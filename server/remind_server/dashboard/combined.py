"""Scores of several groups as one set of patients, and which groups have enough patients to be ranked."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.metrics.aggregates import is_supported
from remind.metrics.packed import unpack
from remind.metrics.remarks import one_class
from remind.metrics.scores import intervals, scores
from remind.metrics.statistics import GroupStatistics, total
from remind_server.dashboard.answers import Estimate, Patients, PatientScores
from remind_server.dashboard.published import Shown
from remind_server.store.schema import ALL, MergedStatistics

Merged = Mapping[int, GroupStatistics]


@dataclass(frozen=True)
class Combined:
    """Several groups whose patients are scored as one set.

    `scores` are null if they are unknown: there are no such patients, or an earlier version wrote the run. `one_class`
    is the class that the model predicts for nearly everyone (`metrics.remarks`), null if there is none.
    """

    groups: int
    scores: PatientScores | None
    one_class: str | None = None


def merged_statistics(session: Session, run_id: int, patients: Patients) -> Merged:
    """Return the statistics of each group over all sites. They are not suppressed: ask `Shown` before showing any."""
    where = (MergedStatistics.run_id == run_id, MergedStatistics.patients == patients)
    rows = session.scalars(select(MergedStatistics).where(*where))
    return {row.group: found for row in rows if (found := unpack(row.packed)) is not None}


def is_ranked(measured: PatientScores, by_class: Collection[int]) -> bool:
    """Return whether there are enough patients for a rank.

    `by_class` is the number of patients of each class; empty if the version that wrote the run did not store it.
    """
    if measured.withheld or not measured.n:
        return False
    if by_class or measured.positives is None:
        return is_supported(by_class)
    return is_supported([measured.n - measured.positives, measured.positives])


def combined(
    merged: Merged, members: Collection[int], place: int, shown: Shown, classes: Collection[str], groups: int
) -> Combined:
    """Return the scores of the members' patients as one set, as far as `shown` allows."""
    found = total({k: merged[k] for k in sorted(members) if k in merged})
    if found is None:
        return Combined(groups, None)
    if not shown.score(ALL, place):
        number = found.count if shown.number(ALL, place) else None
        return Combined(groups, PatientScores(n=number, suppressed=number is None, withheld=True))
    called = one_class(found.confusion_CC)
    return Combined(groups, measured(found), None if called is None else list(classes)[called])


def measured(statistics: GroupStatistics) -> PatientScores:
    """Return scores and intervals of some patients."""
    values = scores(statistics)
    found = {name: getattr(values, name) for name in PatientScores.__dataclass_fields__ if hasattr(values, name)}
    for name, interval in intervals(statistics).items():
        low_high, value = interval, getattr(values, name)
        found[name] = Estimate(value, *low_high) if value is not None and low_high is not None else None
    return PatientScores(**found, gate_open=statistics.open_sum / statistics.count)
