"""The virtual hospitals of a simulation: a cohort laid into sites, each with its split. Every process gets the same."""

from dataclasses import replace
from functools import lru_cache

from remind.config import DataConfig, SyntheticConfig
from remind.data.read import read_cohort
from remind.data.sites import Site, split_sites
from remind.data.split import assign_split
from remind.data.synthetic import generate
from remind.errors import UserError

SYNTHETIC = "synthetic"


@lru_cache(maxsize=1)
def virtual_hospitals(data: DataConfig, synthetic: SyntheticConfig, seed: int, number: int | None) -> tuple[Site, ...]:
    """Hospitals by name, with training, validation and test patients.

    Parameters
    ----------
    data, synthetic
        Which cohort, how it lies in hospitals, and how much is held out.
    number
        How many hospitals; None: as many as the cohort's site column has.

    Raises
    ------
    UserError
        If the cohort is not valid, cannot be laid into so many hospitals, or leaves one without training patients.
    """
    cohort = generate(synthetic, seed) if data.cohort == SYNTHETIC else read_cohort(data.cohort, data.root)
    return tuple(with_split(site, data, seed) for site in split_sites(cohort, number, data, seed))


def with_split(site: Site, data: DataConfig, seed: int) -> Site:
    """The site with its patients' split; one given by the cohort stays."""
    try:
        return replace(site, cohort=assign_split(site.cohort, seed, data.validation, data.test))
    except UserError as error:
        raise UserError(f"site {site.name}: {error}") from None
