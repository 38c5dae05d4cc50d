"""The main results of a run: overall, on the tail, and in the worst group and hospital."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from remind.metrics.chance import DRAWN, DRAWS
from remind.metrics.remarks import one_class, recalls
from remind.metrics.scores import EVERY
from remind.metrics.statistics import total
from remind.secagg.limits import TOGETHER
from remind_server.dashboard.answers import Patients, PatientScores, ScoreName
from remind_server.dashboard.combined import Combined, is_ranked, merged_statistics
from remind_server.dashboard.published import NONE_SHOWN
from remind_server.dashboard.reader import Reader
from remind_server.dashboard.views.groups import GroupRow, GroupTable, worst_first
from remind_server.store.schema import ALL, Site, SiteCounts


@dataclass(frozen=True)
class SiteScores:
    """A hospital: the scores of its own patients of all groups together."""

    number: int
    name: str
    scores: PatientScores
    ranked: bool


@dataclass(frozen=True)
class Verdict:
    """The main results of a run by one score: overall, on the tail, in the worst group and hospital.

    The worst are those of the ranked ones, null if none is ranked. `worst_group_if_equal` and `worst_site_if_equal` are
    the values to expect by chance alone if each had the overall score (`remind.metrics.chance`), null for fewer than
    two, for scores without a model of chance, and where a number that it needs is not shown. `one_class` is the class
    that the model predicts for nearly everyone, and `recalls` the share of each class that is predicted correctly.
    `withheld_groups` and `withheld_sites` have patients, or may have, but no scores that may be shown. `counted` is
    false if they are withheld because the store does not know the patients of each hospital, as of an imported run.
    """

    run: int
    patients: Patients
    score: str
    overall: PatientScores
    tail: Combined
    small: Combined
    groups: int
    ranked_groups: int
    worst_group: GroupRow | None
    worst_group_if_equal: float | None
    sites: int
    ranked_sites: int
    worst_site: SiteScores | None
    worst_site_if_equal: float | None
    one_class: str | None
    recalls: dict[str, float]
    withheld_groups: int
    withheld_sites: int
    counted: bool


def verdict(reader: Reader, table: GroupTable, score: ScoreName) -> Verdict:
    """Return overall score, that of the tail, and the worst ranked group and hospital."""
    sites = site_scores(reader, table)
    with Session(reader.engine) as session:
        classes = reader.run(session, table.run).classes
        overall = (cells := reader.cells(session, table.run, table.patients)).merged()[ALL]
        counted = not (overall.withheld and cells.shown is NONE_SHOWN)
        everyone = total(dict(merged_statistics(session, table.run, table.patients)))
    shares, called = [], None
    if everyone is not None and not overall.withheld:
        shares, called = recalls(everyone.confusion_CC), one_class(everyone.confusion_CC)
    sign = -1 if EVERY[score].lower_is_better else 1
    groups = [row for row in table.ranked if getattr(row.scores, score) is not None]
    ranked = [site for site in sites if site.ranked and getattr(site.scores, score) is not None]
    return Verdict(
        run=table.run,
        patients=table.patients,
        score=score,
        overall=overall,
        tail=table.tail,
        small=table.small,
        groups=len(table.rows),
        ranked_groups=len(table.ranked),
        worst_group=min(groups, key=worst_first(score), default=None),
        worst_group_if_equal=worst_if_equal(score, overall, [row.scores for row in groups]),
        sites=len(sites),
        ranked_sites=len(ranked),
        worst_site=min(ranked, key=lambda site: (sign * getattr(site.scores, score).value, site.name), default=None),
        worst_site_if_equal=worst_if_equal(score, overall, [site.scores for site in ranked]),
        one_class=None if called is None else classes[called],
        recalls={name: share for name, share in zip(classes, shares, strict=False) if share is not None},
        withheld_groups=sum(row.scores.withheld or row.scores.suppressed for row in table.rows),
        withheld_sites=sum(site.scores.withheld or site.scores.suppressed for site in sites),
        counted=counted,
    )


def worst_if_equal(score: str, overall: PatientScores, rows: Sequence[PatientScores]) -> float | None:
    """Return the worst score to expect of these rows if each had the overall score, from what the page shows."""
    found = getattr(overall, score, None)
    if score not in DRAWN or found is None or overall.withheld or len(rows) < 2:
        return None
    known = [(row.n, row.positives) for row in rows]
    sizes = tuple((n - positives, positives) for n, positives in known if n is not None and positives is not None)
    return _by_chance(score, found.value, sizes) if len(sizes) == len(rows) else None


@lru_cache(maxsize=64)
def _by_chance(score: str, value: float, sizes: tuple[tuple[int, int], ...]) -> float | None:
    return DRAWN[score](value, sizes, np.random.default_rng(DRAWS))


def site_scores(reader: Reader, table: GroupTable) -> list[SiteScores]:
    """Return the scores of each hospital's own patients, by name."""
    with Session(reader.engine) as session:
        names = {site.number: site.name for site in session.scalars(select(Site).where(Site.run_id == table.run))}
        of_sites = reader.cells(session, table.run, table.patients).of_sites()
        where = (SiteCounts.run_id == table.run, SiteCounts.patients == table.patients, SiteCounts.counts.is_not(None))
        by_class: dict[int, Counter[int]] = {}
        for row in session.scalars(select(SiteCounts).where(*where).order_by(SiteCounts.round)):
            by_class[row.site] = Counter()
            for counts in (row.counts or {}).values():
                by_class[row.site].update(dict(enumerate(counts)))
    found = [
        SiteScores(number, names[number], scores, is_ranked(scores, by_class.get(number, Counter()).values()))
        for number, scores in of_sites.items()
        if names[number] != TOGETHER
    ]
    return sorted(found, key=lambda site: site.name)
