"""Outcomes that are masks: small cohorts, and targets of artificial patients."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from remind.config import Config, SyntheticConfig
from remind.data.batches.batch import SiteData
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.masks import Masks
from remind.data.synthetic.generate import generate
from remind.data.synthetic.tumours import REGIONS
from remind.outcomes.segmentation import Segmentation
from remind.training.site_model import SiteModel

SIDE = 8
SETTINGS: dict[str, Any] = {
    "synthetic.outcome": "segmentation",
    "synthetic.law": "brats",
    "synthetic.size": SIDE,
    "model.width": 16,
    "model.heads": 2,
    "model.experts": 4,
    "model.tokens": 2,
    "model.dropout": 0.0,
    "model.encoders.choice": "volume: unet(channels = 4, levels = 2)",
}


@lru_cache(maxsize=4)
def cohort_of_masks(patients: int = 60, seed: int = 0, side: int = SIDE) -> Cohort:
    """Return a cohort of volumes and masks in memory."""
    return generate(SyntheticConfig(patients=patients, outcome="segmentation", law="brats", size=side), seed)


def numbers_of(cohort: Cohort) -> NDArray[np.uint8]:
    """Return the numbers of all patients' voxels, (N, V)."""
    assert isinstance(cohort.masks, Masks)
    return np.stack([cohort.masks.load(i).ravel() for i in range(len(cohort))])


def drawn(n: int, rng: np.random.Generator, side: int = 4) -> tuple[Segmentation, NDArray[np.uint8]]:
    """Return an outcome, and the numbers (n, V) of random masks, of which some lack a region."""
    target_NV = rng.choice(np.array([0, 1, 2, 4], np.uint8), (n, side**3), p=[0.6, 0.15, 0.15, 0.1])
    target_NV[::3][target_NV[::3] == 4] = 0
    return Segmentation(size=(side, side, side), regions=REGIONS), target_NV


def small_model(fusion: str = "remind", patients: int = 12, **changes: Any) -> tuple[SiteModel, SiteData]:
    """Return a model of masks in float64 with the groups of its patients, and these."""
    config = Config.from_flat(SETTINGS | {"method.fusion": fusion} | changes)
    cohort = cohort_of_masks(patients)
    model = SiteModel(cohort.schema, config, cohort.schema.names).double()
    model.fusion.keep_groups(set(cohort.groups_N.tolist()), 0)
    return model, SiteData(cohort, torch.float64)
