"""The virtual hospitals of a simulation: assigns a cohort to sites, each with its split.

Every process gets the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from remind.config import DataConfig, SyntheticConfig
from remind.data.cohort.cohort import TRAIN, Cohort, concatenate
from remind.data.cohort.problems import Problem, counted
from remind.data.cohort.read import read_cohort
from remind.data.sites.sites import Site, split_sites
from remind.data.sites.split import agreed, assign_split, draw_split, persons
from remind.data.synthetic.generate import generate
from remind.errors import UserError, several

SYNTHETIC, POOLED = "synthetic", "pooled"


@lru_cache(maxsize=1)
def virtual_hospitals(data: DataConfig, synthetic: SyntheticConfig, seed: int, number: int | None) -> tuple[Site, ...]:
    """Return hospitals by name, with training, validation and test patients.

    Parameters
    ----------
    data, synthetic
        The cohort, how it is assigned to hospitals, and how many patients are held out.
    number
        Number of hospitals; None: one per value of the site column. With ``data.pooled`` this is the number of
        hospitals
        before pooling: all patients are returned as one site, and each keeps the part of the split that its hospital
        would have assigned.

    Raises
    ------
    UserError
        The cohort is not valid, cannot be divided into so many hospitals, leaves a hospital without training patients,
        or has training patients of only one class.
    """
    cohort = generate(synthetic, seed) if data.cohort == SYNTHETIC else read_cohort(data.cohort, data.root)
    hospitals = split_sites(cohort, data.pooled or number, data, seed)
    sites = with_splits(hospitals, data, seed)
    if reasons := unusable(sites):
        raise several("this cannot be trained on", map(str, reasons))
    return (pool(sites),) if data.pooled else sites


def with_splits(sites: Sequence[Site], data: DataConfig, seed: int) -> tuple[Site, ...]:
    """Return the sites with splits. A person is in the same part at every site; splits given by the cohort stay."""
    if any(site.cohort.split_N is not None for site in sites):
        return tuple(sites)

    def draw(cohort: Cohort) -> NDArray[np.int8]:
        return draw_split(persons(cohort), seed, data.validation, data.test, data.min_evaluated)

    splits = agreed([site.cohort for site in sites], draw, seed)
    pairs = zip(sites, splits, strict=True)
    return tuple(replace(site, cohort=replace(site.cohort, split_N=split_N)) for site, split_N in pairs)


def unusable(sites: Sequence[Site]) -> list[Problem]:
    """Return the reasons to refuse a run on these sites.

    The check calls this too, so that it reports what stops a run.
    """
    name = f"cohort {sites[0].cohort.schema.name!r}"
    reasons = []
    for site in sites:
        if not np.any(site.cohort.split_N == TRAIN):
            patients = counted(len(site.cohort), "patient")
            what = f"site {site.name!r}: none of its {patients} is in the training part of the split"
            remedy = "add some to it, remove the site's rows, or assign them to another site"
            reasons.append(Problem(name, what, remedy))
    cohorts = [site.cohort for site in sites]
    label_N = np.concatenate([c.label_N for c in cohorts])
    targets = [c.target_NT for c in cohorts if c.target_NT is not None]
    target_NT = np.concatenate(targets) if targets else None
    training_N = np.concatenate([np.zeros(len(c), bool) if c.split_N is None else c.split_N == TRAIN for c in cohorts])
    for here_N, which in ((np.ones(len(label_N), dtype=bool), "patients"), (training_N, "training patients")):
        target_HT = None if target_NT is None else target_NT[here_N]
        if here_N.any() and (alike := cohorts[0].schema.predicts.alike(label_N[here_N], target_HT)):
            what = f"all {here_N.sum()} {which} {alike}: there is nothing to learn"
            remedy = "check the label (a hospital that trains with others may have patients who are all alike)"
            reasons.append(Problem(name, what, remedy))
            break
    return reasons


def pool(sites: Sequence[Site]) -> Site:
    """Combine all patients into one site. Each keeps the hospital's name and the part of the split assigned there."""
    named = [replace(site.cohort, site_N=np.array([site.name] * len(site.cohort))) for site in sites]
    return Site(POOLED, concatenate(named))


def with_split(site: Site, data: DataConfig, seed: int, least: int = 0) -> Site:
    """Return the site with a split; one given by the cohort stays.

    The larger of `least` and `data.min-evaluated` applies.
    """
    least = max(least, data.min_evaluated)
    try:
        return replace(site, cohort=assign_split(site.cohort, seed, data.validation, data.test, least))
    except UserError as error:
        raise UserError(f"site {site.name}: {error}") from None
