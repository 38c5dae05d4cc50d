"""Support patients: training patients with whom a fusion model compares a patient."""

import numpy as np
import torch

from remind.config import Config
from remind.data.cohort.cohort import TRAIN
from remind.fusion.base import FusionModel
from remind.fusion.support import TokenPool
from remind.seeds import derive
from remind_client.engine.model_state import ModelState
from remind_client.engine.patients import Integers, SitePatients


class Support:
    """Gives a retrieving fusion model this site's training patients.

    Attributes
    ----------
    pool
        The patients that the model has now; None: none.
    """

    def __init__(self, patients: SitePatients, state: ModelState, config: Config) -> None:
        self._patients, self._state, self._seed = patients, state, config.seed
        self.pool: TokenPool | None = None

    def update(self, routing: bool) -> None:
        """Set the model's support: all training patients once the encoders are frozen (`routing`), before none."""
        if self._retrieves():
            self._set(self._encode(self._patients.index[TRAIN], routing) if routing else None)

    def follow(self, routing: bool) -> None:
        """Before a measurement in stage 1: give a model that compares its fixed sample, as the encoders are now.

        They have moved since the last one; in stage 2 they are frozen.
        """
        compares = self._state.model.fusion.compares
        if compares and not routing and self._retrieves():
            self._set(self._encode(self._sample(self._patients.index[TRAIN], compares), routing))

    def _retrieves(self) -> bool:
        return type(self._state.model.fusion).set_support is not FusionModel.set_support

    def _set(self, pool: TokenPool | None) -> None:
        self.pool = pool
        self._state.model.fusion.set_support(pool)

    def _sample(self, rows: Integers, size: int) -> Integers:
        rng = np.random.default_rng(derive(self._seed, "compare", self._patients.site))
        return rows[np.sort(rng.permutation(len(rows))[:size])]

    def _encode(self, rows: Integers, routing: bool) -> TokenPool:
        self._state.model.eval()  # as in a prediction: with dropout, the pool and so the results would vary
        with torch.no_grad():
            _, tokens_NMD = next(self._state.tokens(fresh=not routing).batches([rows]))
        presence_Nm = torch.from_numpy(self._patients.cohort.presence_Nm[rows]).to(tokens_NMD.device)
        seed = derive(self._seed, "support", self._patients.site)
        index_N = torch.from_numpy(rows).to(tokens_NMD.device)
        return TokenPool(self._state.model.by_modality(tokens_NMD), presence_Nm, seed, index_N=index_N)
