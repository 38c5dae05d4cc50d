"""Which hospital's encoders each patient needs, and the loaded models of these hospitals."""

import numpy as np
import torch
from numpy.typing import NDArray

from remind.data.cohort.cohort import Cohort
from remind.errors import UserError
from remind.prediction.bundle import Bundle
from remind.prediction.model import LoadedModel
from remind.prediction.predictions import objects
from remind.prediction.site_part import SitePart


class Hospitals:
    """The hospitals of a model; each model is loaded when it is first used.

    Parameters
    ----------
    bundle
        The model.
    site
        The hospital of all patients; None: the cohort's site column names it, or there is only one.

    Raises
    ------
    UserError
        The part of `site` is not available.
    """

    def __init__(self, bundle: Bundle, site: str | None, device: torch.device) -> None:
        self.bundle, self.site, self.device = bundle, site, device
        self._loaded: dict[str, tuple[LoadedModel, SitePart | None]] = {}
        if site is not None:
            self.load(site)

    @property
    def available(self) -> tuple[str, ...]:
        """Hospitals whose encoders can be used; with an empty name if the model needs no hospital's encoders."""
        return ("", *self.bundle.sites) if self.bundle.serves_everybody else self.bundle.sites

    def load(self, site: str) -> tuple[LoadedModel, SitePart | None]:
        """Return the model with this hospital's encoders, and its part; an empty name: the shared model, no part.

        Raises
        ------
        UserError
            The part of this hospital is not available.
        """
        if site not in self._loaded:
            part = self.bundle.part(site) if site else None
            self._loaded[site] = LoadedModel(self.bundle, part, self.device), part
        return self._loaded[site]

    def of(self, cohort: Cohort) -> NDArray[np.object_]:
        """Return the hospital of each patient, (N,), also where its encoders are not available.

        Raises
        ------
        UserError
            There are several hospitals, and neither `site` nor the cohort names one.
        """
        n, shared = len(cohort), self.bundle.serves_everybody
        if self.site is not None:
            return objects([self.site] * n)
        if len(self.bundle.sites) == 1:
            return objects([self.bundle.sites[0]] * n)
        if cohort.site_N is not None and (not shared or self.bundle.sites):
            return objects(["" if shared and s not in self.bundle.sites else s for s in cohort.site_N.tolist()])
        if shared:
            return objects([""] * n)
        if not self.bundle.sites:
            self.bundle.part("")
        raise UserError(
            f"{self.bundle.where}: which hospital are these patients from? Each hospital has its own encoders, and the "
            f"cohort has no site column; name the hospital with --site: {', '.join(self.bundle.sites)}"
        )

    def why_not(self, site: str) -> str:
        """Return why patients of this hospital, which is not `available`, get no prediction."""
        try:
            self.bundle.part(site)
        except UserError as error:
            return str(error)
        raise AssertionError(site)
