"""The hospitals of a cell: divide the cohort into sites, and choose the test patients of each seed.

Repeated K-fold cross-validation: seed s holds out fold s mod K of partition s div K, with K = 1/data.test. Any K
consecutive seeds that begin at a multiple of K test every patient once, also those of the rarest group. Patients,
hospitals and splits depend only on the seed, so all methods of a seed have the same.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from remind.config import Config, DataConfig, SyntheticConfig
from remind.data.cohort.cohort import TEST, TRAIN, Cohort
from remind.data.cohort.read import read_cohort
from remind.data.sites.hospitals import SYNTHETIC, unusable
from remind.data.sites.sites import Site, split_sites
from remind.data.sites.split import agreed, draw_split, persons, shuffled
from remind.data.synthetic.generate import generate
from remind.errors import UserError, several
from remind_studies.cells.cell import Cell
from remind_studies.cells.missingness import hide


def folds(config: Config) -> int:
    """Return K of the cross-validation that ``data.test`` stands for.

    Raises
    ------
    UserError
        No patients are to be tested.
    """
    if config.data.test <= 0:
        raise UserError("data.test: 0 leaves no patients to compare methods; a study needs a share, such as 0.2")
    return max(2, round(1 / config.data.test))


def hospitals(cell: Cell) -> tuple[Site, ...]:
    """Return the hospitals of a cell by name, with training, validation and test patients.

    Raises
    ------
    UserError
        The cohort is not valid, cannot be divided into this many hospitals, or cannot be trained on.
    """
    config, options = cell.config, cell.options
    number, modality = folds(config), str(options.get("hide", ""))
    partition, fold = divmod(config.seed, number)
    cohort = cohort_of(config.data, config.synthetic, partition if config.data.cohort == SYNTHETIC else 0)
    if modality:
        cohort = hide(cohort, modality, float(options["share"]), partition)
    sites = split_sites(cohort, cell.clients, config.data, partition)
    if cohort.split_N is None:

        def draw(part: Cohort) -> NDArray[np.int8]:
            return _split(part, config, partition, fold, number)

        splits = agreed([site.cohort for site in sites], draw, partition)
        pairs = zip(sites, splits, strict=True)
        sites = [replace(site, cohort=replace(site.cohort, split_N=split_N)) for site, split_N in pairs]
    if reasons := unusable(sites):
        raise several("this cannot be trained on", map(str, reasons))
    return tuple(sites)


def cohort_of(data: DataConfig, synthetic: SyntheticConfig, seed: int) -> Cohort:
    """Return the cohort as read, or as drawn by `seed`. Consecutive runs share it, also with other hospitals."""
    return _cohort(data.cohort, data.root, synthetic, seed)


@lru_cache(maxsize=1)
def _cohort(cohort: str, root: str, synthetic: SyntheticConfig, seed: int) -> Cohort:
    return generate(synthetic, seed) if cohort == SYNTHETIC else read_cohort(cohort, root)


def _split(cohort: Cohort, config: Config, partition: int, fold: int, number: int) -> NDArray[np.int8]:
    """Split of a hospital's patients, (N,), with this fold held out."""
    test_N = fold_of(cohort, partition, number) == fold
    if test_N.all():
        test_N[:] = False  # a single person is trained on
    split_N = np.full(len(cohort), TRAIN, dtype=np.int8)
    split_N[test_N] = TEST
    rest = np.flatnonzero(~test_N)
    share = config.data.validation / (1 - config.data.test)
    split_N[rest] = draw_split(persons(cohort.take(rest)), config.seed, min(share, 0.99), 0.0)
    return split_N


def fold_of(cohort: Cohort, partition: int, number: int) -> NDArray[np.int64]:
    """Return the fold of each patient, (N,): persons in turn, ordered by group, label, and a hash with the partition.

    Rows of a person stay together; the order of the rows does not matter.
    """
    who = persons(cohort)
    shuffle_P = shuffled(who.name_P, partition)
    order_P = shuffle_P[np.lexsort((who.label_P[shuffle_P], who.group_P[shuffle_P]))]
    fold_P = np.empty(len(order_P), dtype=np.int64)
    fold_P[order_P] = np.arange(len(order_P)) % number
    return fold_P[who.of_N]
