"""The virtual hospitals of a simulation: a cohort laid into sites, each with its split. Every process gets the same."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from remind.config import DataConfig, SyntheticConfig
from remind.data.cohort import concatenate
from remind.data.read import read_cohort
from remind.data.sites import Site, split_sites
from remind.data.split import assign_split
from remind.data.synthetic import generate
from remind.errors import UserError

SYNTHETIC, POOLED = "synthetic", "pooled"


@lru_cache(maxsize=1)
def virtual_hospitals(data: DataConfig, synthetic: SyntheticConfig, seed: int, number: int | None) -> tuple[Site, ...]:
    """Hospitals by name, with training, validation and test patients.

    Parameters
    ----------
    data, synthetic
        Which cohort, how it lies in hospitals, and how much is held out.
    number
        How many hospitals; None: as many as the cohort's site column has. With ``data.pooled`` that number counts, and
        their patients come in one site, each with the part of the split that the hospital would have given it.

    Raises
    ------
    UserError
        If the cohort is not valid, cannot be laid into so many hospitals, or leaves one without training patients.
    """
    cohort = generate(synthetic, seed) if data.cohort == SYNTHETIC else read_cohort(data.cohort, data.root)
    hospitals = split_sites(cohort, data.pooled or number, data, seed)
    sites = tuple(with_split(site, data, seed) for site in hospitals)
    return (pool(sites),) if data.pooled else sites


def pool(sites: Sequence[Site]) -> Site:
    """All patients in one place, each with the hospital's name, and the part of the split it had there."""
    named = [replace(site.cohort, site_N=np.array([site.name] * len(site.cohort))) for site in sites]
    return Site(POOLED, concatenate(named))


def with_split(site: Site, data: DataConfig, seed: int) -> Site:
    """The site with its patients' split; one given by the cohort stays."""
    try:
        return replace(site, cohort=assign_split(site.cohort, seed, data.validation, data.test))
    except UserError as error:
        raise UserError(f"site {site.name}: {error}") from None
