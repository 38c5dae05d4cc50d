"""Plan the steps of a round: which patients, in which order, with which weight."""

import numpy as np
import torch

from remind import groups
from remind.config import Config
from remind.data.cohort.cohort import TRAIN
from remind.federation.messages import Task
from remind.objectives.base import Objective, Phase
from remind.seeds import derive
from remind.training.sampling import Step, steps
from remind_client.engine.model_state import ModelState
from remind_client.engine.patients import SitePatients


def plan_steps(
    patients: SitePatients, state: ModelState, objective: Objective, config: Config, task: Task, phase: Phase, key: str
) -> list[Step]:
    """Plan the round's steps on patients of the active groups that phase and fusion model train on.

    Parameters
    ----------
    key
        What the draws depend on under a privacy guarantee.
    """
    cohort, train = patients.cohort, config.train
    rows = patients.index[phase.part]
    copies_N = objective.copies(state.kept) if phase.part == TRAIN else None
    times_N = np.ones(len(rows), dtype=np.int64) if copies_N is None else copies_N.numpy()
    active_N = np.isin(cohort.groups_N[rows], [k for k, w in task.weights.items() if w > 0])
    rows, times_N = rows[active_N], times_N[active_N]
    trains_N = state.model.fusion.trains_on(torch.from_numpy(cohort.presence_Nm[rows]), task.routing).numpy()
    rows, times_N = rows[trains_N], times_N[trains_N]
    if patients.private is not None:  # also steps without patients: their absence would disclose that nobody is there
        return patients.private.plan(task, key, rows, cohort.groups_N[rows])
    if not len(rows) or not phase.train:
        return []
    if objective.sampling is not None:
        train = train.model_copy(update={"sampling": objective.sampling})
    own = None if copies_N is None else groups.counts(cohort.groups_N[rows])
    rows = np.repeat(rows, times_N)
    rng = np.random.default_rng(derive(task.seed, "steps", patients.site, task.round))
    return list(steps(train, rows, cohort.groups_N[rows], task.weights, task.counts, rng, own))
