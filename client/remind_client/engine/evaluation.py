"""Evaluate the model of a site on the site's patients."""

import numpy as np
import torch
from torch import Tensor

from remind.data.cohort.cohort import TRAIN
from remind.metrics.statistics import GroupStatistics
from remind.objectives.base import Labels, Objective
from remind.training.evaluate import evaluate
from remind.training.site_data import TokenSource
from remind.training.site_model import SiteModel
from remind.training.work import LocalWork
from remind_client.engine.patients import SitePatients


class Evaluation:
    """Evaluates the current model."""

    def __init__(self, patients: SitePatients, model: SiteModel, objective: Objective) -> None:
        self._patients, self._model, self._objective = patients, model, objective

    def statistics(
        self, source: TokenSource, part: int, routing: bool, labels: Labels | None = None, temperature: float = 1.0
    ) -> dict[int, GroupStatistics]:
        """Return statistics per group on one part of the split."""
        labels = self._patients.labels(self._objective) if labels is None else labels
        rows = self._patients.evaluated(part)
        return evaluate(self._model, source, rows, self._objective, routing, labels, temperature)

    @torch.no_grad()
    def mistakes(self, work: LocalWork) -> Tensor:
        """Return which training patients the model classifies wrongly, (N,) bool."""
        self._model.eval()
        rows, chunk = self._patients.index[TRAIN], work.source.chunk
        wrong = []
        for batch, tokens_BMD in work.source.batches(np.split(rows, range(chunk, len(rows), chunk))):
            output = self._model.fuse(tokens_BMD, batch.presence_Bm, batch.group_B, work.settings.routing)
            wrong.append((output.logits_BC.argmax(dim=1) != batch.label_B).cpu())
        return torch.cat(wrong)
