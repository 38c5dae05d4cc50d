"""Evaluate the model of a site on the site's patients."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from remind import groups
from remind.data.cohort.cohort import TRAIN, VALIDATION
from remind.federation.messages import Task
from remind.metrics.statistics import GroupLoss, GroupStatistics
from remind.objectives.base import Labels, Objective
from remind.seeds import derive
from remind.training.evaluate import evaluate
from remind.training.measure import drawn, estimated, losses
from remind.training.site_data import TokenSource
from remind.training.site_model import SiteModel
from remind.training.work import LocalWork
from remind_client.engine.patients import Integers, SitePatients


class Evaluation:
    """Evaluates the current model.

    Parameters
    ----------
    prepare
        Called with `routing` before each measurement.
    """

    def __init__(
        self, patients: SitePatients, model: SiteModel, objective: Objective, prepare: Callable[[bool], None]
    ) -> None:
        self._patients, self._model, self._objective, self._prepare = patients, model, objective, prepare

    def statistics(
        self, source: TokenSource, part: int, routing: bool, labels: Labels | None = None, temperature: float = 1.0
    ) -> dict[int, GroupStatistics]:
        """Return statistics per group on one part of the split."""
        labels = self._patients.labels(self._objective) if labels is None else labels
        rows = self._patients.evaluated(part)
        self._prepare(routing)
        return evaluate(self._model, source, rows, self._objective, routing, labels, temperature)

    def losses(
        self, source: TokenSource, part: int, routing: bool, labels: Labels | None = None
    ) -> dict[int, GroupLoss]:
        """Return the losses per group on one part of the split."""
        labels = self._patients.labels(self._objective) if labels is None else labels
        self._prepare(routing)
        return losses(self._model, source, self._patients.evaluated(part), self._objective, routing, labels)

    def sampled_losses(self, source: TokenSource, task: Task, most: int) -> dict[int, GroupLoss]:
        """Estimate the losses of training patients from at most `most` of each group, drawn again in every round."""
        seed = derive(task.seed, "measured", self._patients.site, task.round)
        rows = self._sample(TRAIN, most, seed)
        counts = groups.counts(self._patients.cohort.groups_N[self._patients.evaluated(TRAIN)])
        self._prepare(task.routing)
        return estimated(self._model, source, rows, counts, self._objective, task.routing, task.labels)

    def sampled_validation(self, source: TokenSource, task: Task, most: int) -> dict[int, GroupStatistics]:
        """Return statistics of at most `most` validation patients of each group, the same in all rounds of a run."""
        rows = self._sample(VALIDATION, most, derive(task.seed, "validated", self._patients.site))
        self._prepare(task.routing)
        return evaluate(self._model, source, rows, self._objective, task.routing, task.labels)

    def _sample(self, part: int, most: int, seed: int) -> Integers:
        rows = self._patients.evaluated(part)
        return drawn(rows, self._patients.cohort.groups_N[rows], most, seed)

    @torch.no_grad()
    def mistakes(self, work: LocalWork) -> Tensor:
        """Return which training patients the model classifies wrongly, (N,) bool."""
        self._prepare(work.settings.routing)
        self._model.eval()
        rows, chunk = self._patients.index[TRAIN], work.source.chunk
        wrong = []
        for batch, tokens_BMD in work.source.batches(np.split(rows, range(chunk, len(rows), chunk))):
            output = self._model.fuse(tokens_BMD, batch.presence_Bm, batch.group_B, work.settings.routing)
            wrong.append((output.logits_BC.argmax(dim=1) != batch.label_B).cpu())
        return torch.cat(wrong)
