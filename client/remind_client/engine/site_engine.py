"""The engine of a site: its patients, its model, and what the two can do."""

from functools import cached_property

import torch

from remind.config import Config
from remind.data.cohort.cohort import Cohort
from remind.federation.messages import Examine
from remind.methods import methods_of
from remind.prediction.ranges import Ranges
from remind.prediction.site_part import SitePart
from remind.training.site_model import SiteModel
from remind_client.engine.evaluation import Evaluation
from remind_client.engine.model_state import ModelState
from remind_client.engine.patients import SitePatients
from remind_client.engine.round_work import WorkBuilder
from remind_client.engine.support import Support
from remind_client.store.site_store import SiteStore


class SiteEngine:
    """Patients and model of one hospital in one run.

    Attributes
    ----------
    methods
        Objective and federated rule of the run.
    patients
        Cohort, split and counts.
    state
        The model in memory; loaded before the work, saved after it.
    evaluation
        Evaluates the current model.
    work
        Builds the work of a round.

    Parameters
    ----------
    secret
        The source of draws and noise under a privacy guarantee.
    """

    def __init__(
        self,
        name: str,
        cohort: Cohort,
        config: Config,
        store: SiteStore,
        device: torch.device,
        secret: bytes = b"",
    ) -> None:
        self.config, self.store, self.device = config, store, device
        self.methods = methods_of(config)
        self.patients = SitePatients.of(name, cohort, config, secret)
        self.state = ModelState(self.patients, config, self.methods.rule, store, device)
        self._support = Support(self.patients, self.state, config)
        self.evaluation = Evaluation(self.patients, self.model, self.methods.objective, self._support.follow)
        self.work = WorkBuilder(self.patients, self.state, self._support, self.evaluation, config, self.methods, store)

    @property
    def model(self) -> SiteModel:
        """The model in memory."""
        return self.state.model

    def part(self, task: Examine) -> SitePart:
        """Return the model as it is at this moment, with what else the site needs to predict."""
        pool, counts = self._support.pool, dict(self.patients.counts)
        return SitePart(
            site=self.patients.site,
            round=task.round,
            routing=task.routing,
            config=self.config,
            schema=self.patients.cohort.schema,
            counts=task.counts or counts,
            own=counts,
            tensors={name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()},
            ranges=self._ranges,
            support={} if pool is None else pool.tensors(),
            support_seed=0 if pool is None else pool.seed,
        )

    @cached_property
    def _ranges(self) -> Ranges:
        """What the training patients show."""
        return Ranges.of(self.patients.training())
