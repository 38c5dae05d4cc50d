"""The patients of a site in one run: the split, the groups, and the counts that the site reports."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remind import groups
from remind.config import Config
from remind.data.cohort.cohort import TEST, TRAIN, VALIDATION, Cohort
from remind.federation.messages import Task
from remind.objectives.base import Objective
from remind.objectives.lambda_step import site_share
from remind_client.engine.private_steps import PrivateSteps

Integers = NDArray[np.int64]
PARTS = (TRAIN, VALIDATION, TEST)


@dataclass(frozen=True)
class SitePatients:
    """The patients of one site in one run.

    Attributes
    ----------
    site
        Name of the site.
    cohort
        All patients of the site.
    index
        Positions of the training, validation and test patients.
    counts, observed
        n_{s,k}, and the groups that occur among all patients; under a privacy guarantee as the site reports them.
    private
        How the site takes steps under a privacy guarantee; None: the run gives no guarantee.
    """

    site: str
    cohort: Cohort
    index: Mapping[int, Integers]
    counts: Mapping[int, int]
    observed: tuple[int, ...]
    private: PrivateSteps | None = None

    @classmethod
    def of(cls, site: str, cohort: Cohort, config: Config, secret: bytes = b"") -> "SitePatients":
        """Count the patients; under a privacy guarantee, draw the noise of the counts.

        Raises
        ------
        ValueError
            The cohort has no split.
        """
        if cohort.split_N is None:
            raise ValueError("the cohort has no split yet")
        index = {part: np.flatnonzero(cohort.split_N == part) for part in PARTS}
        exact = groups.counts(cohort.groups_N[index[TRAIN]])
        if config.privacy.mode == "none":
            return cls(site, cohort, index, exact, tuple(groups.counts(cohort.groups_N)))
        private = PrivateSteps.of(config, secret, exact, len(cohort.schema.modalities))
        return cls(site, cohort, index, dict(private.counts), tuple(private.counts), private)

    def training(self) -> Cohort:
        """Return the training patients."""
        return self.cohort.take(self.index[TRAIN])

    def evaluated(self, part: int) -> Integers:
        """Return the positions of the patients of a part of the split on whom the site evaluates."""
        rows = self.index[part]
        if self.private is None:
            return rows
        return rows[np.isin(self.cohort.groups_N[rows], list(self.counts))]  # others would disclose their group

    def share(self, objective: Objective, task: Task) -> float:
        """Return W_s, this site's share of the objective."""
        balanced = objective.phase(task.round).balanced
        held_out = self.held_out() if balanced else {}
        own = {k: held_out.get(k, 0) if balanced and task.weights[k] else self.counts[k] for k in task.weights}
        return site_share(task.weights, task.counts, own)

    def held_out(self) -> dict[int, int]:
        """Return the number of validation patients of each group that the site trains on."""
        counts = groups.counts(self.cohort.groups_N[self.index[VALIDATION]])
        return {k: n for k, n in counts.items() if k in self.counts}

    def labels(self, objective: Objective) -> dict[int, tuple[int, ...]]:
        """Return the training patients of each group by class; empty if the objective does not need them."""
        if not objective.needs_labels:
            return {}
        rows, classes = self.index[TRAIN], len(self.cohort.schema.strata)
        group_N, label_N = self.cohort.groups_N[rows], self.cohort.label_N[rows]
        return {k: tuple(np.bincount(label_N[group_N == k], minlength=classes).tolist()) for k in self.counts}
