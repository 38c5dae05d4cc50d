"""Assigns patients to hospitals: real ones from the site column, or random ones with skewed modality mixes."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from remind.config import DataConfig
from remind.data.cohort.cohort import Cohort, Text
from remind.data.cohort.declaration import read_declaration
from remind.data.cohort.patients import read_sites
from remind.data.cohort.problems import Problem, listed
from remind.data.cohort.read import read_cohort
from remind.data.cohort.source_files import find_file, open_source
from remind.data.sites.lacking import apply_rules
from remind.data.sites.split import persons, shuffled
from remind.data.sites.unlabelled import without_label
from remind.errors import UserError, several

SMALLEST = 0.2  # a random site gets at least this fraction of an equal share of the persons


@dataclass(frozen=True)
class Site:
    """A hospital and its patients."""

    name: str
    cohort: Cohort


def split_sites(cohort: Cohort, n_sites: int | None, data: DataConfig, seed: int) -> list[Site]:
    """Assign the patients of a cohort to hospitals, then remove what `data.rules` says a hospital lacks.

    Parameters
    ----------
    n_sites
        Number of hospitals; None: one per value of the site column.
    data
        ``sites``: ``"column"`` uses the site column; ``"dirichlet"`` divides each group among the sites by shares of
        Dirichlet(alpha) and keeps persons together; ``"auto"`` uses the column if there is one. ``rules``: see
        `rules.apply_rules`.
    seed
        Seed of the random assignment. The result does not depend on the order of the patients, and a group's shares do
        not
        depend on the other groups.

    Returns
    -------
    list of Site
        Sorted by name; random sites are ``site-1``, ``site-2`` ...

    Raises
    ------
    UserError
        There is no site column, the number of sites differs from the requested one, there are more sites than persons,
        a
        rule is wrong, or the rules leave a site empty.
    """
    by_column = data.sites == "column" or (data.sites == "auto" and cohort.site_N is not None)
    site_N = _column(cohort, n_sites) if by_column else _drawn(cohort, n_sites, data.alpha, seed)
    names = sorted(set(site_N.tolist()), key=lambda name: (len(name), name) if not by_column else (0, name))
    others = without_label(cohort, site_N)
    cohorts = {name: replace(cohort.take(site_N == name), unlabelled=others.get(name)) for name in names}
    return [Site(name, part) for name, part in apply_rules(cohorts, data.rules).items()]


def number_of_sites(path: str | Path, root: str = "") -> int | None:
    """Return the number of sites of a cohort; None if it has no site column.

    Usually only the patients file is read. If cohort.toml allows to leave patients out, the whole cohort is read,
    because
    a site may lose all its patients.

    Raises
    ------
    UserError
        The patients file or its site column cannot be used.
    """
    declared, folder = read_declaration(path, root)
    if "drop" in (declared.label.missing, declared.patients.empty):
        cohort = read_cohort(path, root)
        return None if cohort.site_N is None else len(np.unique(cohort.site_N))
    problems: list[Problem] = []
    file = find_file(folder, "patients", declared.patients.file, "patients", problems)
    source = open_source(file, problems, if_empty="add a row per patient") if file else None
    site_R = read_sites(source, declared.patients.site) if source else None
    if problems:
        raise several(f"the sites of cohort {declared.name!r} cannot be read", map(str, problems))
    return None if site_R is None else len(np.unique(site_R))


def _column(cohort: Cohort, n_sites: int | None) -> Text:
    """Return the site of each patient, (N,), from the site column."""
    name = cohort.schema.name
    if cohort.site_N is None:
        raise UserError(
            f"data.sites = 'column', but cohort {name!r} has no site column; "
            "name it with patients.site in cohort.toml, or draw sites with data.sites = 'dirichlet'"
        )
    sites = np.unique(cohort.site_N)
    if n_sites is not None and n_sites != len(sites):
        raise UserError(
            f"cohort {name!r} has {len(sites)} sites ({listed(sites)}), not {n_sites}; "
            f"ask for {len(sites)}, or draw {n_sites} sites with data.sites = 'dirichlet'"
        )
    return cohort.site_N


def _drawn(cohort: Cohort, n_sites: int | None, alpha: float, seed: int) -> Text:
    """Draw the site of each patient, (N,), group by group."""
    if n_sites is None:
        raise UserError("sites are drawn (data.sites = 'dirichlet'), so say how many; for instance 5")
    if n_sites < 1:
        raise UserError(f"{n_sites} sites: ask for at least 1")
    who = persons(cohort)
    if n_sites > len(who.name_P):
        raise UserError(f"{n_sites} sites for {len(who.name_P)} patients; ask for {len(who.name_P)} sites at most")
    site_P = np.empty(len(who.name_P), dtype=np.int64)
    shuffle_P = shuffled(who.name_P, seed)
    for group in np.unique(who.group_P):
        inside = shuffle_P[who.group_P[shuffle_P] == group]
        share_S = np.random.default_rng([seed, int(group)]).dirichlet(np.full(n_sites, alpha))
        edges = np.rint(np.cumsum(share_S) * len(inside))[:-1]
        site_P[inside] = np.searchsorted(edges, np.arange(len(inside)), side="right")
    site_P = _filled_up(site_P, shuffle_P, who.group_P, n_sites)
    names = np.array([f"site-{number + 1}" for number in range(n_sites)], dtype=np.str_)
    return names[site_P[who.of_N]]


def _filled_up(
    site_P: NDArray[np.int64], shuffle_P: NDArray[np.int64], group_P: NDArray[np.int64], n_sites: int
) -> NDArray[np.int64]:
    """Give every site at least a fifth of an equal share: the largest site gives patients of its largest group."""
    site_P = site_P.copy()
    smallest = max(1, int(SMALLEST * len(site_P) / n_sites))
    sizes = np.bincount(site_P, minlength=n_sites)
    while sizes.min() < smallest:
        poor, rich = int(sizes.argmin()), int(sizes.argmax())
        there = shuffle_P[site_P[shuffle_P] == rich]
        groups, count = np.unique(group_P[there], return_counts=True)
        given = there[group_P[there] == groups[count.argmax()]]
        given = given[: min(smallest - sizes[poor], max(1, len(given) // 2), sizes[rich] - smallest)]
        site_P[given] = poor
        sizes = np.bincount(site_P, minlength=n_sites)
    return site_P
