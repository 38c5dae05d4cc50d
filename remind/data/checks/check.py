"""`remind data check`: reports errors and warnings of a cohort, and its patients per group and site."""

from pathlib import Path

import numpy as np

from remind import groups
from remind.config import DataConfig
from remind.data.checks.report import GroupRow, Report
from remind.data.checks.warnings import cohort_warnings
from remind.data.cohort.cohort import SPLITS, Cohort
from remind.data.cohort.kind import kind_of
from remind.data.cohort.problems import Problem
from remind.data.cohort.read import load
from remind.data.cohort.verdicts import Memory
from remind.data.sites.hospitals import unusable, with_splits
from remind.data.sites.sites import Site, split_sites
from remind.privacy.threshold import MIN_COUNT


def check_cohort(
    path: str | Path,
    root: str = "",
    min_count: int = MIN_COUNT,
    memory: Memory | None = None,
    alone: bool = True,
) -> Report:
    """Read a cohort as `read.read_cohort` does and report on it.

    Parameters
    ----------
    path, root, memory
        As for `read.read_cohort`.
    min_count
        A site would suppress groups with fewer patients than this.
    alone
        True if a run would use only this cohort; False if it belongs to one hospital that trains with others.

    Raises
    ------
    UserError
        Only if cohort.toml itself or the folder cannot be used. The report lists every other problem.
    """
    loaded = load(path, root, memory)
    cohort, folder = loaded.cohort, str(loaded.folder)
    if cohort is None:
        return Report(loaded.declared.name, loaded.problems, broken=loaded.broken, min_count=min_count, folder=folder)
    seen = {
        m.name: kind_of(m).look(m, cohort.modalities[m.name], cohort.patient_id_N, loaded.sights.get(m.name, {}))
        for m in cohort.schema.modalities
    }
    return Report(
        name=loaded.declared.name,
        problems=tuple(split_problems(cohort)) if alone else (),
        warnings=tuple(cohort_warnings(loaded, cohort, seen)),
        schema=cohort.schema,
        patients=len(cohort),
        persons=len(np.unique(cohort.person_N)),
        splits=() if cohort.split_N is None else tuple(np.bincount(cohort.split_N, minlength=len(SPLITS)).tolist()),
        sites=sites_of(cohort),
        groups=tuple(group_rows(cohort)),
        broken=loaded.broken,
        files={name: one.words for name, one in seen.items()},
        min_count=min_count,
        folder=folder,
    )


def split_problems(cohort: Cohort) -> list[Problem]:
    """Return the reasons why `hospitals.virtual_hospitals` would refuse a run on a cohort that can be read."""
    data = DataConfig()
    by_column = cohort.site_N is not None
    sites = split_sites(cohort, None, data, 0) if by_column else [Site(cohort.schema.name, cohort)]
    return unusable(with_splits(sites, data, 0))


def group_rows(cohort: Cohort) -> list[GroupRow]:
    """Return the group table of a cohort, largest group first."""
    count_of = groups.counts(cohort.groups_N)
    share_of, tail = groups.shares(count_of), groups.tail(count_of)
    n_classes, sites = len(cohort.schema.strata), sites_of(cohort)
    rows = []
    for group in sorted(count_of, key=lambda g: (-count_of[g], g)):
        inside_N = cohort.groups_N == group
        labels = np.bincount(cohort.label_N[inside_N], minlength=n_classes)
        at = [] if cohort.site_N is None else [int((cohort.site_N[inside_N] == site).sum()) for site in sites]
        name = groups.name(group, cohort.schema.names) or "nothing"
        rows.append(GroupRow(name, count_of[group], share_of[group], group in tail, tuple(labels.tolist()), tuple(at)))
    return rows


def sites_of(cohort: Cohort) -> tuple[str, ...]:
    """Return the sorted names of the sites; empty if the cohort has no site column."""
    return () if cohort.site_N is None else tuple(np.unique(cohort.site_N).tolist())
