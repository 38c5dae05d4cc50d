"""`remind data describe`: counts a cohort's patients per group, site and class, and suppresses small counts.

Letters: G groups, S sites, C classes, m modalities.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from remind import groups
from remind.data.checks.check import sites_of
from remind.data.checks.report_text import aligned, wrapped
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.problems import counted
from remind.data.cohort.read import read_cohort
from remind.errors import UserError
from remind.privacy.published_counts import WITHHELD, Counts, publishable
from remind.privacy.threshold import MIN_COUNT


@dataclass(frozen=True)
class Description:
    """Counts of a cohort. No count reveals fewer than `min_count` persons; `WITHHELD` replaces a count that would.

    Attributes
    ----------
    name, patients
        Name and number of patients of the cohort.
    modalities, sites, classes
        Names; `sites` is empty if the cohort has no site column.
    member_Gm
        Which modalities each group has. Groups with published counts come first, the largest ahead.
    count_G, count_S, count_C, count_GS, count_GC
        Numbers of patients.
    """

    name: str
    patients: int
    modalities: tuple[str, ...]
    sites: tuple[str, ...]
    classes: tuple[str, ...]
    member_Gm: NDArray[np.bool_]
    count_G: Counts
    count_S: Counts
    count_C: Counts
    count_GS: Counts
    count_GC: Counts
    min_count: int

    @property
    def names(self) -> list[str]:
        """Names of the groups."""
        return ["+".join(np.array(self.modalities)[member_m]) or "nothing" for member_m in self.member_Gm]

    @property
    def tail_G(self) -> NDArray[np.bool_]:
        """Return which groups are below the tail's share, including the suppressed ones."""
        return self.count_G / self.patients < groups.TAIL_SHARE

    def to_text(self) -> str:
        """Format the counts as tables."""
        overview = f"{counted(self.patients, 'patient')} in {counted(len(self.count_G), 'group')}"
        rows = [["group", "patients", "share", "", *self.classes]]
        for name, n, tail, n_C in zip(self.names, self.count_G, self.tail_G, self.count_GC, strict=True):
            share = "" if n == WITHHELD else f"{n / self.patients:.3f}"
            part = "" if n == WITHHELD else "tail" if tail else "head"
            rows.append([name, shown(n), share, part, *map(shown, n_C)])
        rows.append(["all", str(self.patients), "", "", *map(shown, self.count_C)])
        lines = [f"cohort {self.name!r}: {overview}", "", *aligned(_numbered(rows))]
        if self.sites:
            at_sites = [[str(g), *map(shown, n_S)] for g, n_S in enumerate(self.count_GS, start=1)]
            lines += ["", *wrapped([["group", *self.sites], *at_sites, ["all", *map(shown, self.count_S)]])]
        counts = (self.count_G, self.count_S, self.count_C, self.count_GS, self.count_GC)
        if any((count == WITHHELD).any() for count in counts):
            lines += ["", f"* withheld: below {self.min_count}, or such a count would follow from it"]
        return "\n".join([*lines, ""])


def describe_cohort(path: str | Path, root: str = "", min_count: int = MIN_COUNT) -> Description:
    """Read and describe a cohort.

    Parameters
    ----------
    path, root
        As for `read.read_cohort`.
    min_count
        Smallest number of persons that may be published. If rows are visits, the counts are of rows, but the number of
        persons decides whether a count is suppressed.

    Raises
    ------
    UserError
        The cohort cannot be read, or has fewer persons than `min_count`.
    """
    return describe(read_cohort(path, root), min_count)


def describe(cohort: Cohort, min_count: int = MIN_COUNT) -> Description:
    """Describe a cohort in memory; see `describe_cohort`."""
    if (n := len(np.unique(cohort.person_N))) < min_count:
        raise UserError(
            f"cohort {cohort.schema.name!r} has {counted(n, 'patient')}, fewer than --min-count {min_count}: "
            "every count would be suppressed; give a smaller one if these counts stay here"
        )
    groups_G, group_N = np.unique(cohort.groups_N, return_inverse=True)
    sites, site_N = sites_of(cohort), np.zeros(0, dtype=np.int64)
    if cohort.site_N is not None:
        site_N = np.unique(cohort.site_N, return_inverse=True)[1]
    person_N = np.unique(cohort.person_N, return_inverse=True)[1]
    size = (len(groups_G), len(sites), len(cohort.schema.strata))
    count_G, count_S, count_C, count_GS, count_GC = publishable(
        (group_N, site_N, cohort.label_N), size, person_N, min_count
    )
    order = np.lexsort((groups_G, -count_G))  # suppressed groups come last, in an order that reveals nothing
    return Description(
        name=cohort.schema.name,
        patients=len(cohort),
        modalities=cohort.schema.names,
        sites=sites,
        classes=cohort.schema.strata,
        member_Gm=(groups_G[order, None] >> np.arange(len(cohort.schema.names)) & 1).astype(bool),
        count_G=count_G[order],
        count_S=count_S,
        count_C=count_C,
        count_GS=count_GS[order],
        count_GC=count_GC[order],
        min_count=min_count,
    )


def shown(count: int) -> str:
    """Format a count for tables and pictures."""
    return "*" if count == WITHHELD else str(count) if count else "·"


def _numbered(rows: list[list[str]]) -> list[list[str]]:
    """Prepend numbers to the group names. The first row is the heading, the last row is the total."""
    digits = len(str(len(rows) - 2))
    numbered = [[f"{number:>{digits}} {row[0]}", *row[1:]] for number, row in enumerate(rows[1:-1], start=1)]
    return [rows[0], *numbered, rows[-1]]
